"""Scoring on the test split, which is opened here and nowhere else, and the gate a version must pass to serve."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pandas as pd

from lib import registry
from lib.appearance import Appearance, appearances
from lib.embeddings import embed
from lib.errors import ArtifactError, DataError
from lib.metrics import (
    Estimate,
    accuracy,
    brier_score,
    compare_paired,
    expected_calibration_error,
    log_loss,
    macro_f1,
    per_class_table,
    proportion,
)
from lib.neighbours import find_neighbours
from lib.prediction import Predictor
from lib.progress import Progress, quiet
from lib.provenance import utc_now
from lib.quality import near_duplicates
from lib.splits import SPLITS
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


def apart_from_training(task: str, test: TaskEmbeddings, progress: Progress = quiet) -> np.ndarray:
    """Which test images, bool of shape (n,), have no near copy among the training images.

    Right answers to the others prove little: near duplicates are found as in 02, and nothing keeps them on one side.
    """
    everything = load_task(task, SPLITS)
    table = everything.manifest
    looks = appearances(embed(everything.root, table["path"], table["sha256"], Appearance()).vectors)
    near = find_neighbours(everything.vectors, progress=progress)
    pairs = near_duplicates(table, near, find_neighbours(looks.greys), looks.hashes)
    first = pairs.loc[(pairs["split"] == "test") & (pairs["other_split"] == "train"), "path"]
    second = pairs.loc[(pairs["other_split"] == "test") & (pairs["split"] == "train"), "other_path"]
    return ~test.manifest["path"].isin({*first, *second}).to_numpy()


def score_apart(labels: np.ndarray, predicted: np.ndarray, apart: np.ndarray) -> dict:
    """What metrics.json holds of the test images without a near copy in training: n, and accuracy (null of none)."""
    estimate = accuracy(labels[apart], predicted[apart]).to_json() if apart.any() else None
    return {"n": int(apart.sum()), "accuracy": estimate}


def validation_part(task: str, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, n_classes) of the validation images, on which thresholds are chosen."""
    val = load_task(task, ["val"])
    proba = predictor.proba(val.vectors) if len(val.labels) else np.zeros((0, len(predictor.classes)))
    return val.labels, proba


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
            low, high = (f"{edge:.0f}" if edge >= 10 else f"{edge:.2f}" for edge in edges[code : code + 2])
            rows.append((name, f"{low} to {high}", int(members.sum()), share.value, share.low, share.high))
    return pd.DataFrame(rows, columns=["slice", "range", "n", "accuracy", "low", "high"])


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


def mistakes(predictions: pd.DataFrame) -> pd.DataFrame:
    """The wrong rows of a predictions table, the most confident first."""
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    return wrong.sort_values("probability", ascending=False, kind="stable")[PREDICTION_COLUMNS].reset_index(drop=True)


def served_tolerance(card: dict) -> float:
    """Largest difference allowed between a probability of a cached vector and one of the file's bytes as served.

    Both come from the same exported network, unless the vectors were computed by torch, and perhaps in half precision.
    """
    backbone = card["backbone"]
    if backbone.get("runtime", "onnxruntime") == "onnxruntime":
        return 1e-5
    return 1e-3 if backbone["precision"] == "fp32" else 5e-2


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


def promotion_gate(test: TaskEmbeddings, version: registry.Version, proba: np.ndarray, macro: Estimate) -> Gate:
    """Hold a version against doing nothing and against the model that serves now.

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
    """
    floor = majority_macro_f1(test.labels, len(test.classes))
    rows = [
        ("macro-F1 interval lies above that of the majority class", f"{macro.low:.3f} > {floor:.3f}", macro.low > floor)
    ]
    rows.append(("not worse than the champion on the same images", *_against_champion(test, version, proba)))
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
    shown = f"{100 * gap.value:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}) against {name}"
    return shown, gap.high >= 0
