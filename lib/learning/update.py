"""A new version made from the champion and what people said since, judged before it may serve."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV

from lib import registry
from lib.classifiers import Spec
from lib.conformal import COVERAGE, conformal_threshold
from lib.decisions import Thresholds
from lib.errors import DataError
from lib.evaluation import predictions_table, record_opening, score
from lib.forgetting import BeforeAfter, changed_answers, recall_changes
from lib.gate import Gate, Margins, update_gate
from lib.incremental import METHODS, Labelled, instant, refit
from lib.labels import QUARANTINED
from lib.learning.material import Material, vectors_of
from lib.metrics import accuracy
from lib.novelty import REFUSED
from lib.probabilities import Probabilities
from lib.production import ImageStore
from lib.provenance import provenance
from lib.reference import Reference, draw_reference, novelty_threshold
from lib.selective import abstain_threshold
from lib.splits import units
from lib.storage import write_table
from lib.training import temperature

TARGET_ACCURACY = 0.95  # of accepted answers, where the champion has no threshold of its own
TIMED = 50  # single vectors that are classified to measure the time


@dataclass(frozen=True)
class Outcome:
    """What came of an update.

    Parameters
    ----------
    version : registry.Version
        Saved and evaluated, whether it passed or not.
    gate : Gate
    forgetting : DataFrame
        From `lib.forgetting.recall_changes`, on the test images.
    changes : DataFrame
        From `lib.forgetting.changed_answers`, on the test images.
    seconds : float
        That the fit took.
    """

    version: registry.Version
    gate: Gate
    forgetting: pd.DataFrame = field(repr=False)
    changes: pd.DataFrame = field(repr=False)
    seconds: float


def make_update(
    task: str, material: Material, method: str = "exact", *, margins: Margins | None = None, why: str = "asked for"
) -> Outcome:
    """Fit, judge and save an update of the champion; nothing serves it yet.

    Parameters
    ----------
    task : str
    material : Material
    method : {"exact", "instant"}
        See `lib.incremental`.
    margins : Margins, optional
        What it may lose.
    why : str
        What set it off, for its card.

    Raises
    ------
    DataError
        If there is nothing new to learn, or no test image to judge by.
    """
    if method not in METHODS:
        raise ValueError(f"{method!r} is none of {METHODS}")
    if not len(material.learned):
        n = int((material.audited["state"] == QUARANTINED).sum())
        doubted = f" ({n} wait in quarantine: python -m lib.learning --task {task} --quarantine)" if n else ""
        raise DataError(f"There is nothing new to learn for task {task!r}: no label can be learned yet{doubted}.")
    if not len(material.test.labels):
        raise DataError(f"Task {task!r} has no test image to judge an update by.")
    check_classes(task, material)
    before = material.champion.load()
    started = perf_counter()
    after = fit(before, material, method)
    seconds = perf_counter() - started
    proba = Probabilities(before), Probabilities(after)
    test, held = judged(material, *proba)
    gate = update_gate(
        test, held, tuple(milliseconds(one, material.test.vectors) for one in proba), margins or Margins()
    )
    forgetting, changes = recall_changes(test), changed_answers(test, material.test.manifest)
    card = update_card(material, after, method, gate, why, seconds)
    reference = updated_reference(task, material)
    metrics = update_metrics(material, test, held, gate, reference, proba[1])
    predictions = predictions_table(material.test.manifest, test.after, material.classes)
    others: dict[str, Callable[[Path], None]] = {
        registry.REFERENCE_FILE: reference.write,
        registry.PREDICTIONS_FILE: lambda path: write_table(path, predictions),
        registry.ADDITIONS_FILE: lambda path: write_table(path, material.additions),
        registry.CHANGES_FILE: lambda path: write_table(path, changes),
    }
    version = registry.save(task, {registry.MODEL_FILE: after}, card, metrics, others)
    record_opening(task, version)
    return Outcome(version, gate, forgetting, changes, seconds)


def check_classes(task: str, material: Material) -> None:
    """Raise DataError if a class has fewer than two images to be trained on, since people took back what taught it."""
    labels = [*material.train.manifest["label"], *material.learned["label"]]
    few = [label for label in material.classes if labels.count(label) < 2]
    if few:
        raise DataError(
            f"Class {', '.join(few)} has no images left to learn from, for labels were taken back; give it labels, or "
            f"go back to a version without it: python -m lib.registry rollback --task {task}."
        )


def fit(model: CalibratedClassifierCV, material: Material, method: str) -> CalibratedClassifierCV:
    """The champion's model brought up to date; raises DataError if a class is too small."""
    train, learned, card = material.train, material.learned, material.champion.card
    vectors = vectors_of(learned, train.vectors.shape[1])
    old = Labelled(train.vectors, material.codes(train.manifest["label"]))
    new = Labelled(vectors, material.codes(learned["label"]))
    if method == "instant":
        return instant(model, old, new, len(material.classes), seed=card["seed"])
    both = Labelled(np.concatenate([old.vectors, new.vectors]), np.concatenate([old.labels, new.labels]))
    del old, vectors
    names = np.concatenate([train.manifest["unit"], units(list(learned["sha256"]), [""] * len(learned))])
    return refit(Spec.from_json(card["spec"]), both, names, n_folds=card["n_folds"], seed=card["seed"])


def compare_methods(material: Material) -> pd.DataFrame:
    """Every way to update the champion, fitted and scored but not saved.

    Returns
    -------
    DataFrame
        Columns method, seconds, and accuracy with its interval, in words, on the test part and on what is held back.
    """
    before, rows = Probabilities(material.champion.load()), []
    for method in METHODS:
        started = perf_counter()
        model = fit(material.champion.load(), material, method)
        seconds = perf_counter() - started
        scores = [
            str(accuracy(both.labels, both.answers[1])) for both in judged(material, before, Probabilities(model))
        ]
        rows.append((method, seconds, *scores))
    return pd.DataFrame(rows, columns=["method", "seconds", "test part", "held back"])


def judged(material: Material, before: Probabilities, after: Probabilities) -> tuple[BeforeAfter, BeforeAfter]:
    """Answers of both models to the test part, and to the feedback that is held back."""
    test, held = material.test, material.held_back
    vectors = vectors_of(held, test.vectors.shape[1])
    return (
        BeforeAfter(
            material.codes(test.manifest["label"]), before(test.vectors), after(test.vectors), material.classes
        ),
        BeforeAfter(material.codes(held["label"]), before(vectors), after(vectors), material.classes),
    )


def milliseconds(proba: Probabilities, vectors: np.ndarray) -> float:
    """That one vector takes to be classified, median."""
    times = []
    for row in range(min(TIMED, len(vectors))):
        started = perf_counter()
        proba(vectors[row : row + 1])
        times.append(1000 * (perf_counter() - started))
    return float(np.median(times))


def update_card(
    material: Material, model: CalibratedClassifierCV, method: str, gate: Gate, why: str, seconds: float
) -> dict:
    """The champion's card, changed where the update differs, with the line it comes from."""
    champion, learned = material.champion, material.learned
    counts = learned["label"].value_counts().sort_index()
    lineage = {
        "parent": champion.name,
        "method": method,
        "why": why,
        "added": {label: int(n) for label, n in counts.items()},
        "n_held_back": len(material.held_back),
        "new_classes": material.new_classes,
        "taught_classes": [*champion.lineage.get("taught_classes", []), *material.new_classes],
        "fit_seconds": round(seconds, 3),
        "gate": gate.to_json(),
    }
    card = {name: value for name, value in champion.card.items() if name != "version"}
    return card | {
        "selection": f"the pipeline of {champion.name}, brought up to date ({method}) with {len(learned):,} images",
        "classes": material.classes,
        "n_train": len(material.train.labels) + len(learned),
        "temperature": temperature(model),
        "provenance": provenance(),
        "lineage": lineage,
    }


def update_metrics(
    material: Material, test: BeforeAfter, held: BeforeAfter, gate: Gate, reference: Reference, proba: Probabilities
) -> dict:
    """metrics.json of the update: scores, thresholds chosen on the validation part, and the gate."""
    earlier = material.champion.metrics.get("decision", {})
    target, val = earlier.get("target_accuracy", TARGET_ACCURACY), material.val
    labels, val_proba = material.codes(val.manifest["label"]), np.empty((0, len(material.classes)))
    if len(val.labels):
        val_proba = proba(val.vectors)
    right = val_proba.argmax(axis=1) == labels
    silence = abstain_threshold(right, val_proba.max(axis=1), target) if len(right) else float("inf")
    decision = Thresholds(
        silence if np.isfinite(silence) else None,
        target,
        conformal_threshold(labels, val_proba),
        COVERAGE,
        novelty_threshold(reference, val.vectors, REFUSED),
    )
    scores = score(test.labels, test.after, material.classes, seed=material.champion.card["seed"])
    # A class that came by feedback has no test image: of its F1, which is 0, nothing can be learned.
    judged_share = len(np.unique(test.labels)) / len(material.classes)
    scores["macro_f1"] = {name: value / judged_share for name, value in scores["macro_f1"].items()}
    return {
        "selection": material.champion.metrics.get("selection", {}),
        "test": scores,
        "held_back": {
            "n": len(held.labels),
            "before": accuracy(held.labels, held.answers[0]).to_json() if len(held.labels) else None,
            "after": accuracy(held.labels, held.answers[1]).to_json() if len(held.labels) else None,
        },
        "decision": decision.to_json(),
        "gate": gate.passed,
    }


def updated_reference(task: str, material: Material) -> Reference:
    """The champion's reference with the images that were added; pictures of those that the log keeps."""
    champion, train, learned = material.champion, material.train, material.learned
    path = champion.folder / registry.REFERENCE_FILE
    if path.exists():
        reference = Reference.read(path)
    else:
        columns = (train.manifest[name] for name in ("sha256", "path", "label"))
        reference = draw_reference(train.root, *columns, train.vectors, seed=champion.card["seed"])
    images = ImageStore.of(task)
    names, labels = list(learned["sha256"]), list(learned["label"])
    vectors = vectors_of(learned, train.vectors.shape[1])
    places = [f"production/{name[:12]}" for name in names]
    files = [images.path(name) for name in names]
    return reference.extended(names, places, labels, files, vectors, seed=champion.card["seed"])
