"""Fitting and calibrating a selected classifier, and what it is held against: baselines and smaller training sets."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from lib.classifiers import Spec
from lib.errors import DataError
from lib.neighbours import Neighbours
from lib.search import Folds, cross_validate, fit_predict, fold_threads, search_logistic
from lib.splits import assign_splits
from lib.splits import folds as draw_folds

KNN_NEIGHBOURS = 10
# Whose out-of-fold opinion on a label counts. With 40 wrong labels among 1,500 clothes the first 80 suspects hold 94 %
# of them; one of the two classifiers, one drawing of folds and no neighbours 91 %.
OPINION_SPECS = [Spec("logistic_regression", root, C=0.01) for root in (False, True)]
OPINION_DRAWS = 3
OPINION_IMAGES = 20_000  # more have their folds drawn once: enough labels steady the opinion
VOTES_SHARE = 0.25
VOTES_SHARPNESS = 8.0  # a neighbour's vote counts exp(8 x cosine)


def fit_calibrated(
    spec: Spec, vectors: np.ndarray, labels: np.ndarray, folds: Folds, *, seed: int
) -> CalibratedClassifierCV:
    """Fit a spec on all training vectors, its temperature on out-of-fold predictions (Guo et al. 2017).

    Returns
    -------
    CalibratedClassifierCV
        `predict_proba` maps (n, dim) float32 to calibrated (n, n_classes); the temperature changes no decision.
    """
    with fold_threads():
        model = CalibratedClassifierCV(spec.build(seed), method="temperature", cv=list(folds), ensemble=False)
        return model.fit(vectors, labels)


def temperature(model: CalibratedClassifierCV) -> float:
    """The temperature of a calibrated model: above 1 it was over-confident, below 1 under-confident."""
    calibrated = model.calibrated_classifiers_[0]
    # Of two classes' log-odds x scikit-learn makes the logits (-x, x), twice as far apart as log-probabilities are.
    doubled = len(model.classes_) == 2 and hasattr(calibrated.estimator, "decision_function")
    return float(1 / (calibrated.calibrators[0].beta_ * (2 if doubled else 1)))


def baselines(
    vectors: np.ndarray, raw_pixels: np.ndarray, labels: np.ndarray, folds: Folds, *, seed: int
) -> dict[str, np.ndarray]:
    """Out-of-fold predictions, int arrays of shape (n,), of what a clever classifier has to beat.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    raw_pixels : ndarray of shape (n, 3 * side * side), float32
    labels : ndarray of shape (n,), int
    folds : sequence of (train indices, validation indices)
    seed : int

    Returns
    -------
    dict of name -> predictions
        Majority class, nearest centroid, k nearest neighbours by cosine, logistic regression on raw pixels.
    """
    smallest = min(len(train) for train, _ in folds)
    models = {
        "majority class": DummyClassifier(),
        "nearest centroid": _centroids(),
        f"{KNN_NEIGHBOURS} nearest neighbours": make_pipeline(
            Normalizer(), KNeighborsClassifier(min(KNN_NEIGHBOURS, smallest))
        ),
    }
    predictions = {name: _cross_val_predict(model, vectors, labels, folds) for name, model in models.items()}
    width = min(128, smallest - 1, raw_pixels.shape[1])
    path = [Spec("logistic_regression", n_components=width, C=C) for C in np.logspace(-4, 1, 6).tolist()]
    raw = search_logistic(raw_pixels, labels, folds, seed=seed, paths=[path])
    predictions["logistic regression on raw pixels"] = raw.best_proba.argmax(1)
    return predictions


def _centroids() -> Pipeline:
    """The classifier that answers the class whose mean vector is nearest."""
    return make_pipeline(StandardScaler(), NearestCentroid())


def nearest_centroid(vectors: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Class codes, shape (m,), of other vectors (m, dim) by the nearest mean of labelled ones (n, dim)."""
    return _fit_predict_quietly(_centroids(), vectors, labels, others)


def _fit_predict_quietly(model: Any, vectors: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Predictions of a classifier fitted anew."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="self.within_class_std_dev_")  # a dead dimension harms no centroid
        return clone(model).fit(vectors, labels).predict(others)


def _cross_val_predict(model: Any, vectors: np.ndarray, labels: np.ndarray, folds: Folds) -> np.ndarray:
    """Out-of-fold predictions, int array of shape (n,)."""
    predicted = np.empty_like(labels)
    for train, val in folds:
        predicted[val] = _fit_predict_quietly(model, vectors[train], labels[train], vectors[val])
    return predicted


def label_opinions(
    vectors: np.ndarray,
    labels: np.ndarray,
    unit: np.ndarray,
    near: Neighbours,
    *,
    n_classes: int,
    seed: int,
) -> np.ndarray:
    """What the other images say of each image's class: the base of a search for wrong labels.

    Out-of-fold probabilities of two logistic regressions, averaged over several drawings of the folds, and votes of
    the nearest neighbours. An image's own label, and those of its duplicates and group, have no part in them.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    labels : ndarray of shape (n,), int
    unit : ndarray of shape (n,), str
        From `lib.splits.units`.
    near : Neighbours
        Of the vectors.
    n_classes : int
    seed : int
        Draws the folds.

    Returns
    -------
    ndarray of shape (n, n_classes), float64
        Rows sum to 1.
    """
    n_draws = OPINION_DRAWS if len(labels) <= OPINION_IMAGES else 1
    logs = np.zeros((len(labels), n_classes))
    for draw in range(n_draws):
        folds = _most_folds(labels, unit, seed=seed + draw)
        for spec in OPINION_SPECS:
            proba = cross_validate(spec, vectors, labels, folds, seed=seed)
            logs += np.log(np.clip(proba, 1e-6, 1)) / (n_draws * len(OPINION_SPECS))
    classifiers = np.exp(logs)
    classifiers /= classifiers.sum(axis=1, keepdims=True)
    return (1 - VOTES_SHARE) * classifiers + VOTES_SHARE * _votes(labels, unit, near, n_classes)


def _most_folds(labels: np.ndarray, unit: np.ndarray, *, seed: int) -> Folds:
    """Five folds, or as many as small classes and large groups allow; DataError where that is not even two."""
    for n_folds in (5, 4, 3):
        try:
            return draw_folds(labels, unit, n_folds=n_folds, seed=seed)
        except DataError:
            continue
    return draw_folds(labels, unit, n_folds=2, seed=seed)


def _votes(labels: np.ndarray, unit: np.ndarray, near: Neighbours, n_classes: int) -> np.ndarray:
    """Share of each class among an image's neighbours of other units, near ones counting more; (n, n_classes)."""
    weights = np.exp(-VOTES_SHARPNESS * near.distances.astype(np.float64)) * (unit[near.indices] != unit[:, None])
    votes = np.full((len(labels), n_classes), 1e-3)
    for code in range(n_classes):
        votes[:, code] += (weights * (labels[near.indices] == code)).sum(axis=1)
    return votes / votes.sum(axis=1, keepdims=True)


def learning_curve(
    spec: Spec,
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    *,
    seed: int,
    fractions: Sequence[float] = (0.1, 0.2, 0.4, 0.7, 1.0),
) -> pd.DataFrame:
    """Accuracy on the validation folds from growing shares of the training folds.

    Returns
    -------
    DataFrame
        Columns n_train, fold, accuracy. Each class keeps at least one image.
    """
    rng = np.random.default_rng(seed)
    smallest = min(len(train) for train, _ in folds)
    subsets = []
    for fold, (train, val) in enumerate(folds):
        order = rng.permutation(train)
        first = np.unique(labels[order], return_index=True)[1]  # one image of each class leads
        order = np.concatenate([order[first], np.delete(order, first)])
        sizes = {max(len(first), round(fraction * smallest)) for fraction in fractions}
        subsets += [(fold, order[:size], val) for size in sorted(sizes) if size > (spec.n_components or 1)]
    with fold_threads() as parallel:
        probas = parallel(
            delayed(fit_predict)(spec.build(seed, in_place=True), vectors, labels, sub, val) for _, sub, val in subsets
        )
    rows = [
        (len(sub), fold, float((proba.argmax(1) == labels[val]).mean()))
        for (fold, sub, val), proba in zip(subsets, probas, strict=True)
    ]
    return pd.DataFrame(rows, columns=["n_train", "fold", "accuracy"])


def last_gain(curve: pd.DataFrame) -> str:
    """What the last step of a learning curve brought, in words: whether more labels would help.

    Called a gain where the mean over the folds is more than two standard errors above zero; folds share training
    images, so this is a hint and no test.
    """
    by_size = curve.pivot_table(index="fold", columns="n_train", values="accuracy").dropna(axis=1)
    if by_size.shape[1] < 2 or len(by_size) < 2:
        return "The curve has one point only, which says nothing of more labels."
    before, last = by_size.columns[-2:]
    gains = by_size[last] - by_size[before]
    mean, error = gains.mean(), gains.std(ddof=1) / np.sqrt(len(gains))
    step = (
        f"From {before:,} to {last:,} training images the accuracy changes by {100 * mean:+.1f} points "
        f"(standard error over {len(gains)} folds {100 * error:.1f})"
    )
    if mean > 2 * error:
        return f"{step}: the curve still rises, more labels would help."
    return f"{step}: no clear gain, so more labels like these may not help."


def resplit_accuracies(
    spec: Spec, vectors: np.ndarray, manifest: pd.DataFrame, labels: np.ndarray, *, n_splits: int, seed: int
) -> np.ndarray:
    """Accuracy of a spec on test parts drawn anew, trained on all else each time: the spread a single split hides.

    Parameters
    ----------
    spec : Spec
    vectors : ndarray of shape (n, dim), float32
    manifest : DataFrame of n rows
        Every image of the task; as many as are in its test part are drawn.
    labels : ndarray of shape (n,), int
    n_splits, seed : int

    Returns
    -------
    ndarray of shape (n_splits,)
    """
    share = float((manifest["split"] == "test").mean())
    pairs = []
    for number in range(n_splits):
        split = assign_splits(
            manifest["sha256"], manifest["label"], manifest["group"], [""] * len(manifest),
            seed=seed + 1 + number, test_fraction=share, val_fraction=0.0,
        )  # fmt: skip
        pairs.append((np.flatnonzero(split == "train"), np.flatnonzero(split == "test")))
    with fold_threads() as parallel:
        probas = parallel(
            delayed(fit_predict)(spec.build(seed, in_place=True), vectors, labels, *pair) for pair in pairs
        )
    return np.array([(p.argmax(1) == labels[test]).mean() for p, (_, test) in zip(probas, pairs, strict=True)])


def rescaled(proba: np.ndarray, model: CalibratedClassifierCV) -> np.ndarray:
    """Probabilities of shape (n, n_classes) after a calibrated model's temperature."""
    powered = np.clip(proba.astype(np.float64), 1e-12, 1.0) ** (1 / temperature(model))
    return powered / powered.sum(axis=1, keepdims=True)
