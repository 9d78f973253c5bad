"""The gate a version must pass to serve: rules fixed beforehand, held against its answers on the test images."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import registry
from lib.embeddings import embed
from lib.errors import ArtifactError
from lib.metrics import Estimate, compare_paired
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
    ]
    return Gate(pd.DataFrame(rows, columns=["rule", "value", "passed"]))


def _against_champion(test: TaskEmbeddings, version: registry.Version, proba: np.ndarray) -> tuple[str, bool]:
    """How the candidate fares against the model that serves, in words, and whether it is not clearly worse.

    Only a champion of the same data, split and classes is compared: any other may know the test images. It answers on
    vectors of its own backbone, which are computed where they are not cached.
    """
    name = registry.deployment(test.facts["task"])["champion"]
    if name is None or name == version.name:
        return "no other champion", True
    try:
        champion = registry.verify(test.facts["task"], name)
        card = champion.card
        if (card["data"]["hash"], card["classes"]) != (version.card["data"]["hash"], version.card["classes"]):
            return f"{name} was trained on other data or another split: not comparable", True
        predictor = Predictor.from_version(champion)
        vectors = test.vectors
        if card["backbone"]["fingerprint"] != version.card["backbone"]["fingerprint"]:
            paths, hashes = test.manifest["path"], test.manifest["sha256"]
            vectors = embed(test.root, paths, hashes, predictor.encoder).vectors
        theirs = predictor.proba(vectors).argmax(axis=1)
    except ArtifactError as error:
        return f"the champion cannot be loaded: {error}", True
    gap = compare_paired(test.labels, proba.argmax(axis=1), theirs).difference
    return f"{gap.points()} against {name}", gap.high >= 0
