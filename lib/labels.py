"""Which labels that people gave can be believed, and which a person should look at first.

A label that says something else than another one, than the training data or than a very sure model is more often wrong
than right, and a flood of one label from one client is what a broken script or an attacker sends. Such labels teach
nothing until somebody has looked: they are quarantined, not thrown away.
"""

import csv
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.errors import DataError
from lib.storage import display_path, production_dir, write_csv

REVIEWS_FILE = "reviews.csv"
COLUMNS = ["sha256", "label", "state", "reason", "n_labels", "prediction", "created", "number", "source", "answered",
           "probability", "version", "kept", "vector"]  # fmt: skip
BELIEVED, QUARANTINED, LEFT_OUT = "believed", "quarantined", "left out"
CONFLICT = "people gave it different labels"
TRAINING = "the training data have another label for it"
CONFIDENT = "the model is very sure of another known class"
FLOOD = "one client gave very many of this label within an hour"
EVALUATED = "it is a validation or test image"
REJECTED = "a person rejected it"
HOUR = 3600.0


@dataclass(frozen=True)
class Rules:
    """What makes a label suspicious.

    Parameters
    ----------
    confidence : float
        A label of another known class than an answer of at least this probability is quarantined.
    flood : int
        More labels of one class from one client within an hour are, where they are most of what the client said then.
    """

    confidence: float = 0.99
    flood: int = 100


@dataclass(frozen=True)
class Review:
    """What a person decided about an image: its label, or None where no label is to be believed."""

    label: str | None


def reviews_path(task: str) -> Path:
    """data/production/<task>/reviews.csv."""
    return production_dir(task) / REVIEWS_FILE


def read_reviews(task: str) -> dict[str, Review]:
    """SHA-256 of an image -> the decision, from reviews.csv: columns image, action (accept or reject), label.

    Raises
    ------
    DataError
        If a line cannot be followed.
    """
    path = reviews_path(task)
    if not path.exists():
        return {}
    found: dict[str, Review] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                action, label = (row.get("action") or "").strip(), (row.get("label") or "").strip()
                if action not in ("accept", "reject") or not row.get("image") or (action == "accept" and not label):
                    raise DataError(
                        f"{display_path(path)}, line {number}: give image (SHA-256), action accept with a label, or "
                        "action reject."
                    )
                found[row["image"].strip()] = Review(label if action == "accept" else None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{display_path(path)} cannot be read as CSV: {error}") from None
    return found


def write_reviews(task: str, reviews: Mapping[str, Review]) -> None:
    """Write reviews.csv anew."""
    rows = [(image, "reject" if review.label is None else "accept", review.label) for image, review in reviews.items()]
    write_csv(reviews_path(task), ["image", "action", "label"], rows)


def audit(
    given: pd.DataFrame,
    classes: Set[str],
    trained: Mapping[str, str],
    evaluated: Set[str],
    reviews: Mapping[str, Review],
    rules: Rules = Rules(),
) -> pd.DataFrame:
    """Judge labels, one row an image.

    Parameters
    ----------
    given : DataFrame
        From `lib.production.reading.read_labels`.
    classes : set of str
        That the champion knows.
    trained : mapping of SHA-256 to label
        Its training images.
    evaluated : set of str
        SHA-256 of validation and test images: they never teach.
    reviews : mapping of SHA-256 to Review
        What a person decided outweighs every rule.
    rules : Rules

    Returns
    -------
    DataFrame
        COLUMNS; `label` is the latest, or the reviewed one; `state` is BELIEVED, QUARANTINED or LEFT_OUT, and `reason`
        says why, "" of those believed.
    """
    flooded = given["number"].isin(_flooded(given, rules.flood))
    rows = []
    for sha256, said in given.assign(flooded=flooded).groupby("sha256", sort=False):
        last = said.iloc[-1]
        review = reviews.get(sha256)
        label = review.label if review and review.label else last["label"]
        state, reason = _judge(said, label, sha256, classes, trained, evaluated, review, rules)
        rows.append((sha256, label, state, reason, len(said), *(last[name] for name in COLUMNS[5:])))
    return pd.DataFrame(rows, columns=COLUMNS)


def _judge(
    said: pd.DataFrame, label: str, sha256: str, classes: Set[str], trained: Mapping[str, str], evaluated: Set[str],
    review: Review | None, rules: Rules,
) -> tuple[str, str]:  # fmt: skip
    """State and reason of one image's label."""
    if sha256 in evaluated:
        return LEFT_OUT, EVALUATED
    if review:
        return (LEFT_OUT, REJECTED) if review.label is None else (BELIEVED, "")
    sure = (said["probability"] >= rules.confidence) & (said["answered"] != label)
    for doubtful, reason in (
        (said["label"].nunique() > 1, CONFLICT),
        (trained.get(sha256, label) != label, TRAINING),
        (label in classes and sure.any(), CONFIDENT),
        (said["flooded"].any(), FLOOD),
    ):
        if doubtful:
            return QUARANTINED, reason
    return BELIEVED, ""


def _flooded(given: pd.DataFrame, limit: int) -> set[int]:
    """Numbers of the rows that belong to a flood."""
    found: set[int] = set()
    for _, told in given.dropna(subset=["source"]).groupby("source"):
        times = told["created"].to_numpy()
        for _, same in told.groupby("label"):
            moments = same["created"].to_numpy()
            ends = np.searchsorted(moments, moments + HOUR, side="right")
            for start in np.flatnonzero(ends - np.arange(len(moments)) > limit):
                n_all = np.searchsorted(times, moments[start] + HOUR, side="right") - np.searchsorted(
                    times, moments[start]
                )
                if 2 * (ends[start] - start) > n_all:
                    found |= set(same["number"].iloc[start : ends[start]])
    return found
