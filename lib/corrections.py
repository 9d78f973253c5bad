"""corrections.csv beside the data: what a person decided about single images, applied by the next run."""

import csv
from dataclasses import dataclass
from pathlib import Path

from lib.errors import DataError
from lib.storage import display_path

FILE = "corrections.csv"
ACTIONS = ("relabel", "drop", "keep")


@dataclass(frozen=True)
class Correction:
    """One line: an image's path as the manifest has it, what to do, and for "relabel" the new label."""

    image: str
    action: str
    label: str = ""


def read_corrections(folder: Path) -> dict[str, Correction]:
    """Image -> correction, from folder/corrections.csv; nothing where there is no such file.

    Raises
    ------
    DataError
        If it is no CSV with columns image and action, an action is none of ACTIONS, a "relabel" has no label, or an
        image is named twice.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line for line in csv.reader(file) if any(line)] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{display_path(path)} cannot be read as CSV: {error}") from None
    columns = [name.strip().lower() for name in header]
    if missing := [name for name in ("image", "action") if name not in columns]:
        raise DataError(
            f"{display_path(path)} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            "it has image,action and, to relabel, label."
        )
    found: dict[str, Correction] = {}
    for number, line in enumerate(lines, start=2):
        row = dict.fromkeys(("image", "action", "label"), "") | dict(zip(columns, line, strict=False))
        image = Path(row["image"].strip()).as_posix()
        correction = Correction(image, row["action"].strip().lower(), row["label"].strip())
        _check(correction, f"{display_path(path)}, line {number}")
        if found.get(image, correction) != correction:
            raise DataError(f"{display_path(path)} says two things of {image}; leave one of them.")
        found[image] = correction
    return found


def _check(correction: Correction, place: str) -> None:
    """Refuse a line that cannot be followed."""
    if correction.action not in ACTIONS:
        raise DataError(f"{place}: action {correction.action!r} is not one of {', '.join(ACTIONS)}.")
    if correction.action == "relabel" and not correction.label:
        raise DataError(f"{place}: relabel {correction.image} to what? Fill in the column label, or use drop or keep.")
