"""A data source -> a manifest of checked images with their splits; nothing is lost silently."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from time import time_ns

import pandas as pd

from lib.corrections import FILE as CORRECTIONS_FILE
from lib.corrections import Correction, read_corrections
from lib.errors import DataError, ImageError
from lib.images import MAX_BYTES, inspect
from lib.sources import Candidate, find_candidates, locate, root_of
from lib.splits import SPLITS, assign_splits, units
from lib.storage import display_path, sha256_bytes

MANIFEST_COLUMNS = ["sha256", "path", "label", "split", "group", "unit", "format", "width", "height", "bytes"]
REJECTED_COLUMNS = ["path", "label", "reason"]
FILE_COLUMNS = ["path", "bytes", "mtime_ns", "sha256", "format", "width", "height"]
CORRECTION_COLUMNS = ["image", "action", "label", "was", "found"]
CHUNK = 64  # files a thread checks before it is given others
SETTLED_NS = 2_000_000_000  # a file changed so shortly before it was read may change again within one tick of its clock


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
    files : DataFrame, one row a file that need not be read again while its size and time of change stay
        FILE_COLUMNS.
    corrections : DataFrame, one row a line of corrections.csv
        CORRECTION_COLUMNS: `was` is the label in the data, `found` whether the data have the image.
    """

    root: Path
    manifest: pd.DataFrame
    rejected: pd.DataFrame
    files: pd.DataFrame
    corrections: pd.DataFrame

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
        return replace(self, manifest=self.manifest[~out].reset_index(drop=True), rejected=rejected)


def read_dataset(
    data_dir: str,
    *,
    seed: int,
    test_fraction: float,
    val_fraction: float,
    min_class_size: int,
    known: pd.DataFrame | None = None,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> Dataset:
    """Find, check and split the images of a data source.

    Parameters
    ----------
    data_dir : str
        A folder of class folders (with or without train/val/test above them), a CSV with columns image, label and
        optionally split and group, or "torchvision:NAME". Relative paths start at the project root. A corrections.csv
        beside the images or the CSV is followed.
    seed : int
        Another seed draws another split.
    test_fraction, val_fraction : float in [0, 1)
    min_class_size : int
        Fewest images of a class.
    known : DataFrame, optional
        `Dataset.files` of an earlier reading: what has kept path, size and time of change is not read again.
    progress : callable, optional
        Wraps the iterable of looked-at files, with their number.

    Raises
    ------
    DataError
        See `locate`, `read_corrections` and `check_classes`; also for a CSV without the columns.
    """
    if not (test_fraction >= 0 and val_fraction >= 0 and test_fraction + val_fraction < 1):
        raise DataError(
            f"test_fraction {test_fraction} and val_fraction {val_fraction} leave nothing to train on; "
            "both must be 0 or more, and their sum less than 1."
        )
    source = locate(data_dir)
    root = root_of(source)
    candidates = find_candidates(source)
    corrections = _correct(candidates, read_corrections(root), min_class_size)
    started = time_ns()
    rows, refused = _look_at(root, candidates, _by_path(known), progress or (lambda items, _: items))
    columns = [*(name for name in MANIFEST_COLUMNS if name != "unit"), "mtime_ns"]
    found = pd.DataFrame(rows, columns=columns).sort_values("path", ignore_index=True)
    files = found.loc[found["mtime_ns"] < started - SETTLED_NS, FILE_COLUMNS].reset_index(drop=True)
    rejected = pd.DataFrame(refused, columns=REJECTED_COLUMNS)
    dataset = Dataset(root, found.drop(columns="mtime_ns"), rejected, files, corrections)
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


def _correct(candidates: list[Candidate], corrections: dict[str, Correction], min_class_size: int) -> pd.DataFrame:
    """Relabel and drop candidates in place; what was corrected as CORRECTION_COLUMNS.

    Raises
    ------
    DataError
        If a new label would be a class of its own and is too rare for that: most likely it is misspelt.
    """
    classes = {candidate.label for candidate in candidates if not candidate.reason}
    by_path: dict[str, list[Candidate]] = {}  # a CSV may name an image twice
    for candidate in candidates if corrections else ():
        if not candidate.reason:
            by_path.setdefault(candidate.path, []).append(candidate)
    rows = []
    for correction in corrections.values():
        named = by_path.get(correction.image, [])
        rows.append((*vars(correction).values(), named[0].label if named else "", bool(named)))
        for candidate in named:
            if correction.action == "relabel":
                candidate.label = correction.label
            elif correction.action == "drop":
                candidate.reason = f"dropped by {CORRECTIONS_FILE}"
    table = pd.DataFrame(rows, columns=CORRECTION_COLUMNS)
    new = table.loc[table["found"] & (table["action"] == "relabel") & ~table["label"].isin(classes), "label"]
    for label, n in new.value_counts().items():
        if n < min_class_size:
            raise DataError(
                f"{CORRECTIONS_FILE} gives {n} image{'s' * (n > 1)} the label {label!r}, which is no class of the data "
                f"({', '.join(sorted(classes))}); correct it, or give it {min_class_size} images to make it one."
            )
    return table


def _by_path(known: pd.DataFrame | None) -> dict[str, list]:
    """Path -> (bytes, mtime_ns, sha256, format, width, height) of an earlier reading."""
    rows = () if known is None else known[FILE_COLUMNS].itertuples(index=False, name=None)
    return {path: facts for path, *facts in rows}


def _look_at(
    root: Path, candidates: list[Candidate], known: dict[str, list], progress: Callable
) -> tuple[list[tuple], list[tuple]]:
    """Read and check every candidate: manifest rows, with the time of change behind, and refused rows."""
    rows, refused = [], []
    seen: set[str] = set()
    chunks = (candidates[start : start + CHUNK] for start in range(0, len(candidates), CHUNK))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = chain.from_iterable(pool.map(partial(_check_all, root, known), chunks))
        for candidate, result in progress(zip(candidates, results, strict=True), len(candidates)):
            if isinstance(result, str):
                refused.append((printable(candidate.path), printable(candidate.label), result))
            elif candidate.path in seen:
                refused.append((candidate.path, candidate.label, "the manifest names this image twice"))
            else:
                seen.add(candidate.path)
                rows.append(result)
    return rows, refused


def _check_all(root: Path, known: dict[str, list], candidates: list[Candidate]) -> list[tuple | str]:
    """`_check` of some candidates."""
    return [_check(root, known, candidate) for candidate in candidates]


def _check(root: Path, known: dict[str, list], candidate: Candidate) -> tuple | str:
    """A candidate's manifest row without its unit, and its time of change; or the reason why it is refused."""
    if candidate.reason:
        return candidate.reason
    path = os.path.join(root, candidate.path)  # not pathlib, which takes twice as long over many files
    try:
        stat = os.stat(path)
        if not S_ISREG(stat.st_mode):
            return "not a file"
        size, mtime_ns = stat.st_size, stat.st_mtime_ns
        place = (candidate.path, candidate.label, candidate.split, candidate.group)
        earlier = known.get(candidate.path)
        if earlier and earlier[:2] == [size, mtime_ns]:
            sha256, *header = earlier[2:]
            return (sha256, *place, *header, size, mtime_ns)
        if size > MAX_BYTES:
            return f"{size:,} bytes, more than the {MAX_BYTES:,} allowed"
        data = Path(path).read_bytes()
        info = inspect(data)
    except ImageError as error:
        return str(error)
    except FileNotFoundError:
        return "a dangling link" if os.path.islink(path) else "the file does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return (sha256_bytes(data), *place, info.format, info.width, info.height, size, mtime_ns)


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
    sha256, labels, groups, given = (table[name].to_numpy(object) for name in ("sha256", "label", "group", "split"))
    split = assign_splits(
        sha256, labels, groups, given, seed=seed, test_fraction=test_fraction, val_fraction=val_fraction
    )
    table = table.assign(split=split, unit=units(sha256, groups))[MANIFEST_COLUMNS]
    return replace(dataset, manifest=table)
