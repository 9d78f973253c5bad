"""Images that were sent to the service, kept by their content's SHA-256; never under a name that a client chose."""

import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from lib.storage import production_dir, write_bytes

MAX_BEGUN = 8  # images that may be on their way to the disk at a time


class ImageStore:
    """A folder of image files.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._pool = ThreadPoolExecutor(MAX_BEGUN, "image store")  # no thread until one is needed
        self._begun: dict[str, Future] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, task: str) -> "ImageStore":
        """A task's own, data/production/<task>/images."""
        return cls(production_dir(task) / "images")

    def path(self, sha256: str) -> Path:
        """Where an image of this content lies, or would."""
        return self.folder / sha256[:2] / sha256

    def begin(self, sha256: str, data: bytes) -> None:
        """Begin to write a file that `keep` will be asked for, so that the network computes while the disk works.

        What fails is told by `keep`, which writes by itself whatever was not begun or has gone since.
        """
        with self._lock:
            if sha256 in self._begun or len(self._begun) >= MAX_BEGUN:
                return
            try:
                future = self._begun[sha256] = self._pool.submit(self._write, sha256, data)
            except RuntimeError:  # no thread can be started
                return
        future.add_done_callback(lambda _: self._end(sha256))

    def _write(self, sha256: str, data: bytes) -> None:
        """Write a file durably, unless one of its content is there."""
        path = self.path(sha256)
        if path.exists():
            return
        try:
            write_bytes(path, data)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # it may have its name and not be durable
            raise

    def _end(self, sha256: str) -> None:
        """Forget that a file was begun."""
        with self._lock:
            del self._begun[sha256]

    def keep(self, sha256: str, data: bytes) -> None:
        """Write a file durably, unless one of its content is there; wait for it if it was begun."""
        with self._lock:
            begun = self._begun.get(sha256)
        if begun:
            wait([begun])
        self._write(sha256, data)

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
