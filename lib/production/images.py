"""Images that were sent to the service, kept by their content's SHA-256; never under a name that a client chose."""

from pathlib import Path

from lib.storage import production_dir, write_bytes


class ImageStore:
    """A folder of image files.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def of(cls, task: str) -> "ImageStore":
        """A task's own, data/production/<task>/images."""
        return cls(production_dir(task) / "images")

    def path(self, sha256: str) -> Path:
        """Where an image of this content lies, or would."""
        return self.folder / sha256[:2] / sha256

    def keep(self, sha256: str, data: bytes) -> None:
        """Write a file durably, unless one of its content is there."""
        path = self.path(sha256)
        if not path.exists():
            write_bytes(path, data)

    def remove(self, sha256: str) -> None:
        """Delete an image."""
        self.path(sha256).unlink(missing_ok=True)

    def oldest_first(self) -> list[tuple[str, int]]:
        """(SHA-256, bytes) of every image, in the order in which they were kept."""
        found = []
        for path in self.folder.glob("??/*"):
            if len(path.name) == 64:
                stat = path.stat()
                found.append((stat.st_mtime_ns, path.name, stat.st_size))
        return [(name, size) for _, name, size in sorted(found)]
