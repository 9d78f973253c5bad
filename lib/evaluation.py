"""Scoring on the test split, which is opened here and nowhere else."""

from time import perf_counter

import numpy as np
import pandas as pd

from lib import registry
from lib.errors import DataError
from lib.metrics import (
    Estimate,
    accuracy,
    brier_score,
    expected_calibration_error,
    log_loss,
    macro_f1,
    per_class_table,
    proportion,
)
from lib.prediction import Predictor
from lib.provenance import utc_now
from lib.storage import read_json, task_dir, write_json
from lib.tasks import TaskEmbeddings, load_task

OPENINGS_FILE = "test_openings.json"
PREDICTION_COLUMNS = ["sha256", "path", "split", "label", "predicted", "probability"]


def open_test_split(task: str, version: registry.Version) -> TaskEmbeddings:
    """The test images with their vectors, for a version that was trained on the rest of the same data and split.

    Raises
    ------
    DataError
        If the task has no test image, or the version's data or split were others: it may have been trained on
        images that are in the test part now.
    """
    test = load_task(task, ["test"])
    if version.card["data"]["hash"] != test.facts["data_hash"]:
        raise DataError(
            f"Version {version.name} was trained on other data or another split than the task has now, so its test "
            f"images may have been trained on; run ./run_pipeline.sh training evaluation --task {task}."
        )
    if not len(test.labels):
        raise DataError(f"Task {task!r} has no test image; raise `test_fraction` in the embedding stage.")
    return test


def told_openings(openings: list[dict]) -> str:
    """How often a test part has been opened, in words; `openings` from `record_opening`."""
    n_versions = len({opening["version"] for opening in openings})
    times, versions = "s" * (len(openings) > 1), "s" * (n_versions > 1)
    return f"This test part has been opened {len(openings)} time{times}, for {n_versions} version{versions}."


def record_opening(task: str, version: registry.Version) -> list[dict]:
    """Note that a version is scored on the test images of its data and split; every opening of these images so far.

    The more often they are looked at to decide something, the less they tell: see the count before trusting a gain.
    """
    path = task_dir(task) / OPENINGS_FILE
    known = read_json(path) if path.exists() else []
    data = version.card["data"]["hash"]
    known.append({"version": version.name, "data": data, "opened": utc_now()})
    write_json(path, known)
    return [opening for opening in known if opening["data"] == data]


def score_apart(labels: np.ndarray, predicted: np.ndarray, apart: np.ndarray) -> dict:
    """What metrics.json holds of the test images without a near copy in training: n, and accuracy (null of none)."""
    estimate = accuracy(labels[apart], predicted[apart]).to_json() if apart.any() else None
    return {"n": int(apart.sum()), "accuracy": estimate}


def validation_part(task: str, predictor: Predictor) -> tuple[TaskEmbeddings, np.ndarray]:
    """The validation images, on which thresholds are chosen, and their probabilities, (n, n_classes)."""
    val = load_task(task, ["val"])
    proba = predictor.proba(val.vectors) if len(val.labels) else np.zeros((0, len(predictor.classes)))
    return val, proba


def slices(manifest: pd.DataFrame, measures: pd.DataFrame, right: np.ndarray) -> pd.DataFrame:
    """Accuracy on quarters of the images by size, brightness, contrast and sharpness: where a model is weak.

    Parameters
    ----------
    manifest : DataFrame of n rows
    measures : DataFrame of n rows
        From `lib.appearance.Appearances`.
    right : ndarray of shape (n,), bool

    Returns
    -------
    DataFrame
        Columns slice, range, n, accuracy, low, high. What hardly varies is not cut into quarters.
    """
    features = {
        "short side (pixels)": manifest[["width", "height"]].min(axis=1).to_numpy(dtype=float),
        "brightness": measures["brightness"].to_numpy(),
        "contrast": measures["contrast"].to_numpy(),
        "sharpness": measures["sharpness"].to_numpy(),
    }
    rows = []
    for name, values in features.items():
        edges = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
        part = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
        for code in range(len(edges) - 1 if len(edges) > 2 else 0):
            members = part == code
            share = proportion(int(right[members].sum()), int(members.sum()))
            low, high = (f"{edge:.0f}" if edge >= 10 else f"{edge:.2g}" for edge in edges[code : code + 2])
            rows.append((name, f"{low} to {high}", int(members.sum()), share.value, share.low, share.high))
    return pd.DataFrame(rows, columns=["slice", "range", "n", "accuracy", "low", "high"])


def headline(scores: dict) -> list[str]:
    """The two sentences a reader takes away: accuracy and macro-F1, and the accuracy without near copies.

    `scores` from `score`, with "apart" from `score_apart`.
    """
    whole, macro, apart = Estimate(**scores["accuracy"]), Estimate(**scores["macro_f1"]), scores["apart"]
    n_copies = scores["n"] - apart["n"]
    first = f"Accuracy {whole}, macro-F1 {macro}, n = {scores['n']:,}."
    if not n_copies:
        return [first, "No test image has a near copy in training."]
    without = Estimate(**apart["accuracy"]) if apart["accuracy"] else "none is left"
    return [
        first,
        f"Without the {n_copies:,} images that have a near copy in training: {without}, n = {apart['n']:,}.",
    ]


def told_confidence(scores: dict, proba: np.ndarray, right: np.ndarray) -> list[str]:
    """Whether the confidence can be believed, in sentences; arrays of shape (n, n_classes) and (n,)."""
    gap = proba.max(axis=1).mean() - right.mean()
    believed = f"over-confident by {100 * gap:.1f}" if gap > 0 else f"under-confident by {-100 * gap:.1f}"
    return [
        f"Mean confidence {proba.max(axis=1).mean():.3f}, accuracy {right.mean():.3f}: {believed} points on average.",
        f"Calibration error {scores['ece']:.3f}, Brier score {scores['brier']:.3f}, log loss {scores['log_loss']:.3f}.",
    ]


def set_sizes(sets: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Columns size, n, coverage, low, high: how many sets have each size, and how often they hold the true class."""
    sizes, right = sets.sum(axis=1), sets[np.arange(len(labels)), labels]
    rows = []
    for size in np.unique(sizes):
        share = proportion(int(right[sizes == size].sum()), int((sizes == size).sum()))
        rows.append((int(size), int((sizes == size).sum()), share.value, share.low, share.high))
    return pd.DataFrame(rows, columns=["size", "n", "coverage", "low", "high"])


def weak_slices(table: pd.DataFrame, overall: float) -> str:
    """Which slices lie clear of the accuracy of all, in words; `table` from `slices`."""
    weak = table[table["high"] < overall].sort_values("accuracy")
    strong = table[table["low"] > overall].sort_values("accuracy", ascending=False)
    found = [f"{kind}: {_named(rows)}" for kind, rows in (("Weaker", weak), ("Stronger", strong)) if len(rows)]
    if not found:
        return f"None of the {len(table)} slices lies clear of the accuracy of all, {overall:.3f}."
    by_luck = f"of {len(table)} slices about {max(1, round(0.05 * len(table)))} would lie clear of it by luck"
    return f"Of all {overall:.3f} are right. {'. '.join(found)}; {by_luck}."


def _named(rows: pd.DataFrame) -> str:
    """Slices in words."""
    return "; ".join(f"{row.slice} {row.range} ({row.accuracy:.3f}, n = {row.n})" for row in rows.itertuples())


def contenders_table(labels: np.ndarray, answers: dict[str, np.ndarray], n_classes: int, *, seed: int) -> pd.DataFrame:
    """Columns classifier, accuracy, macro-F1, with intervals in words; a row for each named array of class codes."""
    rows = [
        (name, str(accuracy(labels, guess)), str(macro_f1(labels, guess, n_classes, seed=seed)))
        for name, guess in answers.items()
    ]
    return pd.DataFrame(rows, columns=["classifier", "accuracy", "macro-F1"])


def latencies(predictor: Predictor, files: list[bytes]) -> np.ndarray:
    """Milliseconds from a file's bytes to its prediction, one file after another, the first one left out; (n - 1,)."""
    found = []
    for data in files:
        started = perf_counter()
        predictor.predict([data])
        found.append(1000 * (perf_counter() - started))
    return np.array(found[1:])


def score(labels: np.ndarray, proba: np.ndarray, classes: list[str], *, seed: int) -> dict:
    """Everything metrics.json holds of a split.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
    proba : ndarray of shape (n, n_classes), float
    classes : list of str
    seed : int
        For the bootstrap.

    Returns
    -------
    dict
        n; accuracy and macro_f1 as {value, low, high}; ece, brier, log_loss; classes: a score table each.
    """
    predicted = proba.argmax(axis=1)
    per_class = per_class_table(labels, predicted, classes, seed=seed)
    return {
        "n": len(labels),
        "accuracy": accuracy(labels, predicted).to_json(),
        "macro_f1": macro_f1(labels, predicted, len(classes), seed=seed).to_json(),
        "ece": expected_calibration_error(labels, proba),
        "brier": brier_score(labels, proba),
        "log_loss": log_loss(labels, proba),
        "classes": {row["label"]: _without_nan(row) for row in per_class.to_dict("records")},
    }


def _without_nan(row: dict) -> dict:
    """A table row as JSON values: a score that does not exist (no image, no prediction) is null."""
    return {
        key: None if isinstance(value, float) and np.isnan(value) else value
        for key, value in row.items()
        if key != "label"
    }


def predictions_table(manifest: pd.DataFrame, proba: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """One row an image: PREDICTION_COLUMNS, then a probability column a class (named "proba: <class>")."""
    table = manifest[["sha256", "path", "split", "label"]].copy()
    table["predicted"] = np.array(classes, dtype=object)[proba.argmax(axis=1)]
    table["probability"] = proba.max(axis=1)
    columns = pd.DataFrame(proba, columns=[f"proba: {label}" for label in classes], index=table.index)
    return pd.concat([table, columns], axis=1)


def served_tolerance(card: dict) -> float:
    """Largest difference allowed between a probability of a cached vector and one of the file's bytes as served.

    Both come from the same exported network, unless the vectors were computed by torch, and perhaps in half precision.
    """
    backbone = card["backbone"]
    if backbone.get("runtime", "onnxruntime") == "onnxruntime":
        return 1e-5
    return 1e-3 if backbone["precision"] == "fp32" else 5e-2
