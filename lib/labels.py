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
           "probability", "version", "kept", "vector", "backbone"]  # fmt: skip
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


def reviews_path(task: str) -> Path:
    """data/production/<task>/reviews.csv."""
    return production_dir(task) / REVIEWS_FILE


def read_reviews(task: str) -> dict[str, str | None]:
    """SHA-256 of an image -> its label as a person decided, None where no label is to be believed.

    From reviews.csv: columns image, action (accept or reject), label.

    Raises
    ------
    DataError
        If a line cannot be followed.
    """
    path = reviews_path(task)
    if not path.exists():
        return {}
    found: dict[str, str | None] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                action, label = (row.get("action") or "").strip(), (row.get("label") or "").strip()
                if action not in ("accept", "reject") or not row.get("image") or (action == "accept" and not label):
                    raise DataError(
                        f"{display_path(path)}, line {number}: give image (SHA-256), action accept with a label, or "
                        "action reject."
                    )
                found[row["image"].strip()] = label if action == "accept" else None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{display_path(path)} cannot be read as CSV: {error}") from None
    return found


def write_reviews(task: str, reviews: Mapping[str, str | None]) -> None:
    """Write reviews.csv anew."""
    rows = [(image, "reject" if label is None else "accept", label) for image, label in reviews.items()]
    write_csv(reviews_path(task), ["image", "action", "label"], rows)


def audit(
    given: pd.DataFrame,
    classes: Set[str],
    trained: Mapping[str, str],
    evaluated: Set[str],
    reviews: Mapping[str, str | None],
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
    reviews : mapping of SHA-256 to label or None
        What a person decided, as `read_reviews` has it, outweighs every rule.
    rules : Rules

    Returns
    -------
    DataFrame
        COLUMNS; `label` is the latest, or the reviewed one; `state` is BELIEVED, QUARANTINED or LEFT_OUT, and `reason`
        says why, "" of those believed.
    """
    by_image = given.groupby("sha256", sort=False)
    found = given.drop_duplicates("sha256", keep="last").assign(
        n_labels=lambda last: by_image.size()[last["sha256"]].values
    )
    decided, accepted = found["sha256"].isin(set(reviews)), found["sha256"].map(reviews)
    found["label"] = accepted.where(accepted.notna(), found["label"])
    meant = given["sha256"].map(found.set_index("sha256")["label"])
    doubts = {
        CONFLICT: by_image["label"].nunique() > 1,
        CONFIDENT: _any((given["probability"] >= rules.confidence) & (given["answered"] != meant), given),
        FLOOD: _any(given["number"].isin(_flooded(given, rules.flood)), given),
    }
    images, label = found["sha256"], found["label"]
    known = images.map(trained)
    reasons = [
        (images.isin(evaluated), LEFT_OUT, EVALUATED),
        (decided & accepted.isna(), LEFT_OUT, REJECTED),
        (decided, BELIEVED, ""),
        (images.map(doubts[CONFLICT]), QUARANTINED, CONFLICT),
        (known.notna() & (known != label), QUARANTINED, TRAINING),
        (label.isin(classes) & images.map(doubts[CONFIDENT]), QUARANTINED, CONFIDENT),
        (images.map(doubts[FLOOD]), QUARANTINED, FLOOD),
    ]
    conditions = [condition.to_numpy(dtype=bool) for condition, _, _ in reasons]
    found["state"] = np.select(conditions, [state for _, state, _ in reasons], BELIEVED)
    found["reason"] = np.select(conditions, [reason for _, _, reason in reasons], "")
    return found[COLUMNS].reset_index(drop=True)


def _any(rows: pd.Series, given: pd.DataFrame) -> pd.Series:
    """Whether any row of an image is marked, by image."""
    return rows.groupby(given["sha256"]).any()


def _flooded(given: pd.DataFrame, limit: int) -> set[int]:
    """Numbers of the rows that belong to a flood."""
    found: set[int] = set()
    for _, told in given.dropna(subset=["source"]).groupby("source"):
        times = told["created"].to_numpy()
        for _, same in told.groupby("label"):
            moments = same["created"].to_numpy()
            starts = np.arange(len(moments))
            ends = np.searchsorted(moments, moments + HOUR, side="right")
            n_all = np.searchsorted(times, moments + HOUR, side="right") - np.searchsorted(times, moments)
            begun = (ends - starts > limit) & (2 * (ends - starts) > n_all)
            edges = np.zeros(len(moments) + 1, dtype=int)  # +1 where a flood begins, -1 behind its end
            np.add.at(edges, starts[begun], 1)
            np.add.at(edges, ends[begun], -1)
            found |= set(same["number"].to_numpy()[np.cumsum(edges)[:-1] > 0])
    return found
