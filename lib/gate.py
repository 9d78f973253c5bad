"""The gate a version must pass to serve: rules fixed beforehand, held against its answers on the test images."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import registry
from lib.errors import ArtifactError
from lib.forgetting import BeforeAfter
from lib.metrics import Estimate, calibration_change, compare_paired, proportion
from lib.prediction import Predictor
from lib.tasks import TaskEmbeddings


@dataclass(frozen=True)
class Gate:
    """Rules a version was held to before serving: a table of rule, value, passed."""

    table: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return bool(self.table["passed"].all())

    def to_json(self) -> list[dict]:
        """A dict a rule, as metrics.json holds them."""
        return [row | {"passed": bool(row["passed"])} for row in self.table.to_dict("records")]


@dataclass(frozen=True)
class Margins:
    """How much an update may lose.

    Parameters
    ----------
    overall : float
        Of the accuracy on the test images; two images are never too much.
    a_class : float
        Of the recall of any class, beyond doubt.
    calibration : float
        Of the calibration error, to which it may be added.
    milliseconds : float
        That the classifier may take longer.
    """

    overall: float = 0.01
    a_class: float = 0.10
    calibration: float = 0.02
    milliseconds: float = 1.0


def update_gate(test: BeforeAfter, held: BeforeAfter, milliseconds: tuple[float, float], margins: Margins) -> Gate:
    """Hold an update against the model that it was made from.

    Parameters
    ----------
    test : BeforeAfter
        The frozen test part.
    held : BeforeAfter
        Images of feedback that are never trained on; perhaps none yet.
    milliseconds : (float, float)
        That one vector takes to be classified before and after, medians.
    margins : Margins
    """
    first, second = test.answers
    gap = compare_paired(test.labels, second, first).difference
    known = held.labels < held.before.shape[1]  # of new classes the model before knew nothing
    told = compare_paired(held.labels[known], *(answer[known] for answer in reversed(held.answers))).difference
    error = calibration_change(test.labels, test.before, test.after)
    rows = [
        ("not clearly worse on the test images", gap.points(), gap.high >= 0),
        (
            f"loses at most {100 * margins.overall:.1f} points on them, or two images",
            f"{100 * gap.value:+.1f} points",
            gap.value >= -max(margins.overall, 2 / max(len(test.labels), 1)) - 1e-12,
        ),
        (
            f"no class clearly loses more than {100 * margins.a_class:g} points",
            *_worst_class(test, margins.a_class),
        ),
        (
            "not clearly worse on feedback that was held back",
            f"{told.points()}, n = {known.sum()}" if known.any() else "none is held back yet",
            told.high >= 0,
        ),
        ("new classes are recognised in it", *_new_classes(held)),
        (
            f"calibration error not clearly larger, or by at most {margins.calibration:g}",
            f"{error.value:+.3f} ({error.low:+.3f} to {error.high:+.3f})",
            error.value <= margins.calibration or error.low <= 0,
        ),
        (
            f"classifies at most {margins.milliseconds:g} ms slower",
            f"{milliseconds[0]:.2f} -> {milliseconds[1]:.2f} ms",
            milliseconds[1] <= milliseconds[0] + margins.milliseconds,
        ),
    ]
    return Gate(pd.DataFrame(rows, columns=["rule", "value", "passed"]))


def _worst_class(test: BeforeAfter, margin: float) -> tuple[str, bool]:
    """The class that lost most, in words, and whether none lost more than it may beyond doubt (paired interval)."""
    first, second = test.answers
    gaps = {}
    for code in np.unique(test.labels):
        own = test.labels == code
        gaps[test.classes[code]] = compare_paired(test.labels[own], second[own], first[own])
    label, worst = min(gaps.items(), key=lambda item: item[1].difference.value)
    lost = [pair.difference for pair in gaps.values() if pair.difference.value < -margin - 1e-12]
    return f"{label}: {worst.difference.points()}, n = {worst.n}", all(gap.high >= 0 for gap in lost)


def _new_classes(held: BeforeAfter) -> tuple[str, bool]:
    """How many of their images are told, and whether that is not clearly less than half."""
    new = held.labels >= held.before.shape[1]
    if not new.any():
        return "no image of a new class is held back", True
    right = held.answers[1][new] == held.labels[new]
    share = proportion(int(right.sum()), len(right))
    return f"{right.sum()} of {len(right)}", share.high >= 0.5


def majority_macro_f1(labels: np.ndarray, n_classes: int) -> float:
    """Macro-F1 of always answering the most frequent class."""
    share = np.bincount(labels, minlength=n_classes).max() / len(labels)
    return float(2 * share / (1 + share) / n_classes)


def promotion_gate(
    test: TaskEmbeddings, version: registry.Version, proba: np.ndarray, macro: Estimate, simple: np.ndarray
) -> Gate:
    """Hold a version against doing nothing, against the simplest classifier, and against the model that serves now.

    Parameters
    ----------
    test : TaskEmbeddings
        The test split.
    version : registry.Version
        The candidate.
    proba : ndarray of shape (n, n_classes), float
        Its probabilities on the test images.
    macro : Estimate
        Its macro-F1.
    simple : ndarray of shape (n,), int
        The answers of the nearest class centroid, which was not searched for.
    """
    floor = majority_macro_f1(test.labels, len(test.classes))
    gap = compare_paired(test.labels, proba.argmax(axis=1), simple).difference
    rows = [
        ("macro-F1 interval above the majority class", f"{macro.low:.3f} > {floor:.3f}", macro.low > floor),
        ("not clearly worse than the nearest centroid on the same images", gap.points(), gap.high >= 0),
        ("not clearly worse than the champion on the same images", *_against_champion(test, version, proba)),
        ("knows every class that people taught the champion", *_taught_classes(test.facts["task"], version)),
    ]
    return Gate(pd.DataFrame(rows, columns=["rule", "value", "passed"]))


def _against_champion(test: TaskEmbeddings, version: registry.Version, proba: np.ndarray) -> tuple[str, bool]:
    """How the candidate fares against the model that serves, in words, and whether it is not clearly worse.

    Only a champion of the same data and split is compared: any other may know the test images. It answers on vectors
    of its own backbone, which are computed where they are not cached.
    """
    name = registry.deployment(test.facts["task"])["champion"]
    if name is None or name == version.name:
        return "no other champion", True
    try:
        champion = registry.verify(test.facts["task"], name)
        card = champion.card
        if card["data"]["hash"] != version.card["data"]["hash"]:
            return f"{name} was trained on other data or another split: not comparable", True
        predictor = Predictor.from_version(champion)
        places = {label: code for code, label in enumerate(test.classes)}
        codes = np.array([places.get(label, -1) for label in card["classes"]])  # it may have been taught more classes
        theirs = codes[predictor.proba(test.vectors_for(predictor)).argmax(axis=1)]
    except ArtifactError as error:
        return f"the champion cannot be loaded: {error}", True
    gap = compare_paired(test.labels, proba.argmax(axis=1), theirs).difference
    return f"{gap.points()} against {name}", gap.high >= 0


def _taught_classes(task: str, version: registry.Version) -> tuple[str, bool]:
    """The classes that the champion learned from feedback and the candidate lacks, in words, and whether none is."""
    name = registry.deployment(task)["champion"]
    try:
        taught = registry.verify(task, name).lineage.get("taught_classes", []) if name else []
    except ArtifactError as error:
        return f"the champion cannot be loaded: {error}", True
    lacking = [label for label in taught if label not in version.card["classes"]]
    advice = f"; python -m lib.learning --task {task} --retrain trains on production's images too"
    return (f"lacks {', '.join(lacking)}{advice}", False) if lacking else ("none is missing", True)
