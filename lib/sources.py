"""A data source -> the files it names, each with its class, before any of them is looked at."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.corrections import FILE as CORRECTIONS_FILE
from lib.errors import DataError
from lib.storage import artifacts_dir, display_path, project_path, sha256_bytes, sha256_file, task_name
from lib.torchvision_data import PREFIX, write_class_folders

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass
class Candidate:
    """A file the data name, before it is looked at; `reason` is set where it is refused unread."""

    path: str
    label: str = ""
    split: str = ""
    group: str = ""
    reason: str = ""


def default_task(data_dir: str) -> str:
    """Task name of a data source: the folder's, the CSV file's or the torchvision dataset's name."""
    if data_dir.startswith(PREFIX):
        return task_name(data_dir.removeprefix(PREFIX).lower())
    path = project_path(data_dir)
    return task_name(path.stem if path.suffix.lower() == ".csv" else path.resolve().name)


def locate(data_dir: str) -> Path:
    """Folder or CSV file of a data source; a torchvision dataset is downloaded and written as class folders first.

    Raises
    ------
    DataError
        If there is nothing there.
    """
    if data_dir.startswith(PREFIX):
        return write_class_folders(data_dir.removeprefix(PREFIX), _torchvision_folder())
    path = project_path(data_dir)
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".csv"):
        return path
    wanted = "a folder with one sub-folder a class, a CSV file with columns image,label, or torchvision:NAME"
    found = "is a file of another kind" if path.exists() else "does not exist"
    raise DataError(f"data_dir {display_path(path)} {found}; give {wanted}.")


def _torchvision_folder() -> Path:
    """Where torchvision's datasets are kept."""
    return project_path("data/torchvision")


def find_candidates(source: Path) -> list[Candidate]:
    """Every file that a folder of class folders holds or a CSV manifest names; raises DataError as `_from_csv` does."""
    return list(_from_folders(source) if source.is_dir() else _from_csv(source))


def listing_hash(data_dir: str) -> str:
    """SHA-256 over name, size and time of change of every file of a data source, without reading images.

    Tells whether the data may have changed since; `lib.datasets.Dataset.data_hash` tells whether they did.
    """
    if data_dir.startswith(PREFIX):
        corrections = _torchvision_folder() / data_dir.removeprefix(PREFIX) / "images" / CORRECTIONS_FILE
        return sha256_bytes(f"{data_dir} {sha256_file(corrections) if corrections.is_file() else ''}".encode())
    source = locate(data_dir)
    if source.is_dir():
        names = ["/".join(parts) for parts in _walk(source)]
    else:
        names = [source.name, CORRECTIONS_FILE, *(candidate.path for candidate in _from_csv(source))]
    lines, root = [], root_of(source)
    for name in names:
        try:
            stat = os.stat(os.path.join(root, name))  # not pathlib, which takes twice as long over many files
            lines.append(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}")
        except (OSError, ValueError):
            lines.append(f"{name}\tmissing")
    return sha256_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))


def root_of(source: Path) -> Path:
    """Folder that a source's paths are relative to."""
    return source if source.is_dir() else source.parent


def _walk(root: Path) -> Iterator[tuple[str, ...]]:
    """Parts of the path of every file below a folder, sorted; linked folders are followed, but never in a circle."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not _leads_back(root, Path(folder, name)))
        above = Path(folder).relative_to(root).parts
        for name in sorted(files):
            yield (*above, name)


def _leads_back(root: Path, folder: Path) -> bool:
    """Whether a linked folder leads to one of the folders that were walked through on the way to it."""
    if not folder.is_symlink():
        return False
    way = [path for path in folder.parents if path.is_relative_to(root)]
    return any(path.resolve().is_relative_to(folder.resolve()) for path in way)


def _from_folders(root: Path) -> Iterator[Candidate]:
    """Candidates of class folders; split folders above them are recognised where there is nothing else beside them."""
    if artifacts_dir().resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"data_dir {display_path(root)} contains this project's artifacts; give the folder of images itself."
        )
    tops = [path.name.lower() for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name)]
    split_above = "train" in {SPLIT_FOLDERS.get(name) for name in tops} and all(name in SPLIT_FOLDERS for name in tops)
    depth = 2 if split_above else 1
    filled = set()
    for parts in _walk(root):
        if parts == (CORRECTIONS_FILE,):
            continue
        candidate = Candidate("/".join(parts))
        if len(parts) > depth and not any(map(_is_hidden, parts[:depth])):
            filled.add(parts[:depth])
            candidate.label = parts[depth - 1]
            candidate.split = SPLIT_FOLDERS.get(parts[0].lower(), "") if split_above else ""
        candidate.reason = _refused_unread(parts, depth)
        yield candidate
    for folder in sorted(root.glob("/".join("*" * depth))):
        parts = folder.relative_to(root).parts
        if folder.is_dir() and parts not in filled and not any(map(_is_hidden, parts)):
            yield Candidate("/".join(parts), parts[-1], reason="a folder without files")


def _is_hidden(name: str) -> bool:
    """Whether a name marks what an operating system or a tool left there, not the user's own."""
    return name.startswith(".") or name == "__MACOSX"


def _refused_unread(parts: tuple[str, ...], depth: int) -> str:
    """Why a file is refused by its name and place alone, or ""."""
    try:
        "/".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not valid UTF-8; rename it"
    if any(map(_is_hidden, parts)):
        return "a hidden or system file"
    if len(parts) <= depth:
        return "not inside a class folder"
    return ""


def _from_csv(source: Path) -> Iterator[Candidate]:
    """Candidates of a CSV manifest; image paths are relative to the CSV's folder."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line for line in csv.reader(file) if line] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{display_path(source)} cannot be read as CSV: {error}") from None
    columns = [name.strip().lower() for name in header]
    missing = {"image", "label"} - set(columns)
    if missing:
        raise DataError(
            f"{display_path(source)} lacks the column{'s' * (len(missing) > 1)} {', '.join(sorted(missing))}; "
            "a manifest has image,label and optionally split,group."
        )
    twice = [name for name in ("image", "label", "split", "group") if columns.count(name) > 1]
    if twice:
        raise DataError(f"{display_path(source)} has more than one column {', '.join(twice)}; leave one of them.")
    for line in lines:
        row = dict.fromkeys(("image", "label", "split", "group"), "") | dict(zip(columns, line, strict=False))
        split = row["split"].strip().lower()
        path = Path(row["image"]).as_posix()  # "./a.png" is "a.png"
        candidate = Candidate(path, row["label"].strip(), SPLIT_FOLDERS.get(split, ""), row["group"].strip())
        if any(line[len(columns) :]):
            candidate.reason = "its line has more fields than the manifest has columns"
        elif not candidate.label:
            candidate.reason = "the manifest gives no label"
        elif split and not candidate.split:
            candidate.reason = f"split {split!r} is not train, val or test"
        yield candidate
