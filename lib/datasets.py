"""A folder, a CSV or a torchvision dataset's name -> a manifest of checked, split images; nothing is lost silently."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lib.errors import DataError, ImageError
from lib.images import MAX_BYTES, inspect
from lib.splits import SPLITS, assign_splits, units
from lib.storage import artifacts_dir, display_path, project_path, sha256_bytes, task_name
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
MANIFEST_COLUMNS = ["sha256", "path", "label", "split", "group", "unit", "format", "width", "height", "bytes"]
REJECTED_COLUMNS = ["path", "label", "reason"]


@dataclass
class Candidate:
    """A file the data name, before it is looked at; `reason` is set where it is refused unread."""

    path: str
    label: str = ""
    split: str = ""
    group: str = ""
    reason: str = ""


@dataclass
class Dataset:
    """What was found.

    Parameters
    ----------
    root : Path
        Folder that the manifest's paths are relative to.
    manifest : DataFrame, one row a usable image
        MANIFEST_COLUMNS; sorted by path; sizes in pixels as stored.
    rejected : DataFrame, one row a refused file
        REJECTED_COLUMNS.
    """

    root: Path
    manifest: pd.DataFrame
    rejected: pd.DataFrame

    @property
    def classes(self) -> list[str]:
        """Labels in sorted order; class i of every model is classes[i]."""
        return sorted(self.manifest["label"].unique())

    @property
    def data_hash(self) -> str:
        """SHA-256 over content, label and split of every usable image, independent of names and order."""
        rows = sorted(self.manifest[["sha256", "label", "split"]].itertuples(index=False, name=None))
        return sha256_bytes("\n".join(map("\t".join, rows)).encode())

    def without(self, refused: dict[str, str]) -> "Dataset":
        """Move images (path -> reason) from the manifest to the refused files."""
        out = self.manifest["path"].isin(refused)
        rows = [(path, label, refused[path]) for path, label in self.manifest.loc[out, ["path", "label"]].to_numpy()]
        rejected = pd.concat([self.rejected, pd.DataFrame(rows, columns=REJECTED_COLUMNS)], ignore_index=True)
        return Dataset(self.root, self.manifest[~out].reset_index(drop=True), rejected)


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
        return write_class_folders(data_dir.removeprefix(PREFIX), project_path("data/torchvision"))
    path = project_path(data_dir)
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".csv"):
        return path
    wanted = "a folder with one sub-folder a class, a CSV file with columns image,label, or torchvision:NAME"
    found = "is a file of another kind" if path.exists() else "does not exist"
    raise DataError(f"data_dir {display_path(path)} {found}; give {wanted}.")


def read_dataset(
    data_dir: str,
    *,
    seed: int,
    test_fraction: float,
    val_fraction: float,
    min_class_size: int,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> Dataset:
    """Find, check and split the images of a data source.

    Parameters
    ----------
    data_dir : str
        A folder of class folders (with or without train/val/test above them), a CSV with columns image, label and
        optionally split and group, or "torchvision:NAME". Relative paths start at the project root.
    seed : int
        Another seed draws another split.
    test_fraction, val_fraction : float in [0, 1)
    min_class_size : int
        Fewest images of a class.
    progress : callable, optional
        Wraps the iterable of looked-at files, with their number.

    Raises
    ------
    DataError
        See `locate` and `check_classes`; also for a CSV without the columns.
    """
    if not (test_fraction >= 0 and val_fraction >= 0 and test_fraction + val_fraction < 1):
        raise DataError(
            f"test_fraction {test_fraction} and val_fraction {val_fraction} leave nothing to train on; "
            "both must be 0 or more, and their sum less than 1."
        )
    source = locate(data_dir)
    root = root_of(source)
    candidates = list(_from_folders(source) if source.is_dir() else _from_csv(source))
    rows, refused = _look_at(root, candidates, progress or (lambda items, _: items))
    manifest = pd.DataFrame(rows, columns=[name for name in MANIFEST_COLUMNS if name not in ("unit",)])
    manifest = manifest.sort_values("path", ignore_index=True)
    dataset = Dataset(root, manifest, pd.DataFrame(refused, columns=REJECTED_COLUMNS))
    dataset = dataset.without(_leaks(dataset.manifest))
    check_classes(dataset, min_class_size)
    dataset = _split(dataset, seed=seed, test_fraction=test_fraction, val_fraction=val_fraction)
    check_classes(dataset, min_class_size)
    return dataset


def empty_classes(dataset: Dataset) -> list[str]:
    """Class folders of which not one file is usable; they are left out and must be said loudly."""
    return sorted(set(dataset.rejected["label"]) - set(dataset.manifest["label"]) - {""})


def check_classes(dataset: Dataset, min_class_size: int) -> None:
    """Refuse data that no classifier can be trained on.

    Raises
    ------
    DataError
        With fewer than two classes, or a class with fewer than `min_class_size` images or, once there are splits,
        fewer than two training images, naming them.
    """
    counts = dataset.manifest["label"].value_counts()
    if len(counts) < 2:
        found = f"one class ({counts.index[0]!r})" if len(counts) else "no usable image"
        refused = f", {len(dataset.rejected)} files refused" if len(dataset.rejected) else ""
        raise DataError(
            f"{display_path(dataset.root)} has {found}{refused}; at least two class folders with images are needed."
        )
    small = counts[counts < min_class_size].sort_index()
    if len(small):
        names = ", ".join(f"{label!r} ({count})" for label, count in small.items())
        raise DataError(
            f"Too few images in {names}; each class needs at least {min_class_size}. Add images or remove the folder."
        )
    table = dataset.manifest
    if (table["split"] == "").any():
        return
    training = table[table["split"] == "train"].groupby("label").size()
    missing = [label for label in counts.index.sort_values() if training.get(label, 0) < 2]
    if missing:
        raise DataError(
            f"The training part has fewer than two images of {', '.join(map(repr, missing))}; "
            "move some there, or take these classes out of the other parts."
        )


def class_counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images by class (rows) and split (columns)."""
    counts = manifest.groupby(["label", "split"]).size().unstack(fill_value=0)
    return counts[[split for split in SPLITS if split in counts]]


def listing_hash(data_dir: str) -> str:
    """SHA-256 over name, size and time of change of every file below a data source, without reading images.

    Tells whether the data may have changed since; `Dataset.data_hash` tells whether they did.
    """
    if data_dir.startswith(PREFIX):
        return sha256_bytes(data_dir.encode())
    source = locate(data_dir)
    if source.is_dir():
        names = [path.as_posix() for path in _walk(source)]
    else:
        names = [source.name, *(candidate.path for candidate in _from_csv(source))]
    lines = []
    for name in names:
        try:
            stat = (root_of(source) / name).stat()
            lines.append(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}")
        except (OSError, ValueError):
            lines.append(f"{name}\tmissing")
    return sha256_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))


def root_of(source: Path) -> Path:
    """Folder that a source's paths are relative to."""
    return source if source.is_dir() else source.parent


def _walk(root: Path) -> Iterator[Path]:
    """Every file below a folder, relative to it, sorted; linked folders are followed, but never in a circle."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not _leads_back(root, Path(folder, name)))
        for name in sorted(files):
            yield Path(folder, name).relative_to(root)


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
    for relative in _walk(root):
        parts = relative.parts
        candidate = Candidate(relative.as_posix())
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


def _look_at(root: Path, candidates: list[Candidate], progress: Callable) -> tuple[list[tuple], list[tuple]]:
    """Read and check every candidate: manifest rows and refused rows."""
    rows, refused = [], []
    seen: set[str] = set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_check, root), candidates)
        for candidate, result in progress(zip(candidates, results, strict=True), len(candidates)):
            if isinstance(result, str):
                refused.append((printable(candidate.path), printable(candidate.label), result))
            elif candidate.path in seen:
                refused.append((candidate.path, candidate.label, "the manifest names this image twice"))
            else:
                seen.add(candidate.path)
                rows.append(result)
    return rows, refused


def _check(root: Path, candidate: Candidate) -> tuple | str:
    """A candidate's manifest row without its unit, or the reason why it is refused."""
    if candidate.reason:
        return candidate.reason
    path = root / candidate.path
    try:
        if not path.is_file():
            return (
                "not a file" if path.exists() else "a dangling link" if path.is_symlink() else "the file does not exist"
            )
        size = path.stat().st_size
        if size > MAX_BYTES:
            return f"{size:,} bytes, more than the {MAX_BYTES:,} allowed"
        data = path.read_bytes()
        info = inspect(data)
    except ImageError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    place = (candidate.path, candidate.label, candidate.split, candidate.group)
    return (sha256_bytes(data), *place, info.format, info.width, info.height, size)


def printable(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a name that are not valid UTF-8 are shown as \\x.."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _leaks(manifest: pd.DataFrame) -> dict[str, str]:
    """Images to leave out because given splits hold the same content or group on two sides: test keeps it, then val."""
    rank = manifest["split"].map({"test": 0, "val": 1}).fillna(2)
    in_group = (manifest["group"] != "") & (manifest["split"] != "")  # one without a split follows its group
    refused = {}
    for column, chosen, reason in (
        ("group", in_group, "of the same group as"),
        ("sha256", rank >= 0, "an exact duplicate of"),
    ):
        first = rank[chosen].groupby(manifest[column][chosen]).transform("min")
        for path, own, best in zip(manifest["path"][chosen], rank[chosen], first, strict=True):
            if own > best:
                refused[path] = f"{reason} an image of the {'test' if best == 0 else 'val'} split"
    return refused


def _split(dataset: Dataset, *, seed: int, test_fraction: float, val_fraction: float) -> Dataset:
    """The data set with splits and units filled in."""
    table = dataset.manifest
    given = table["split"].to_numpy(dtype=object)
    split = assign_splits(
        table["sha256"], table["label"], table["group"], given,
        seed=seed, test_fraction=test_fraction, val_fraction=val_fraction,
    )  # fmt: skip
    table = table.assign(split=split, unit=units(table["sha256"], table["group"]))[MANIFEST_COLUMNS]
    return Dataset(dataset.root, table, dataset.rejected)
