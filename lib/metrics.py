"""Scores and their uncertainty. Pure: arrays in, numbers and tables out. Classes are codes 0 to n_classes - 1.

Without a single image every score is nan.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from lib.estimates import Estimate

CONFIDENCE = 0.95


def proportion(successes: int, n: int) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927); n = 0 gives nan with the interval 0 to 1."""
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    interval = binomtest(int(successes), int(n)).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, interval.low, interval.high)


def accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> Estimate:
    """Share of right predictions with Wilson's interval; two int arrays of shape (n,)."""
    return proportion(int((y_true == y_pred).sum()), len(y_true))


def expected_accuracy(confidence: np.ndarray) -> Estimate:
    """Share of right answers that calibrated probabilities of the answers, shape (n,), make one expect without a label.

    Confidence-based performance estimation (Bialek et al., Estimating Model Performance Under Covariate Shift Without
    Labels, 2024): each answer is right with its own probability, so the number of right ones has the variance of a
    Poisson binomial. It is as good as the calibration: images of no known class are not what that was fitted on.
    """
    n = len(confidence)
    if not n:
        return Estimate(float("nan"), 0.0, 1.0)
    value, half = float(confidence.mean()), 1.959964 * float(np.sqrt((confidence * (1 - confidence)).sum())) / n
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def macro_f1(
    y_true: np.ndarray, y_pred: np.ndarray, n_classes: int, *, n_resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Mean F1 over classes with a percentile bootstrap interval over images (Efron 1979); int arrays of shape (n,)."""
    if not len(y_true):
        return Estimate(float("nan"), 0.0, 1.0)
    value = f1_score(y_true, y_pred, labels=range(n_classes), average="macro", zero_division=0)
    resampled = f1_resamples(y_true, y_pred, n_classes, n_resamples=n_resamples, seed=seed).mean(axis=1)
    return Estimate(value, *percentiles(resampled))


def confusion_counts(y_true: np.ndarray, y_pred: np.ndarray, n_classes: int) -> np.ndarray:
    """Images by true (rows) and predicted class (columns): two int arrays of shape (n,) -> (n_classes, n_classes)."""
    pairs = np.ravel_multi_index((y_true, y_pred), (n_classes, n_classes))
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def f1_resamples(y_true: np.ndarray, y_pred: np.ndarray, n_classes: int, *, n_resamples: int, seed: int) -> np.ndarray:
    """F1 per class in bootstrap resamples: ndarray of shape (n_resamples, n_classes), float."""
    if not len(y_true):
        return np.zeros((n_resamples, n_classes))
    counts = confusion_counts(y_true, y_pred, n_classes)
    pairs = np.nonzero(counts)  # only what occurs is drawn: with many classes most pairs never do
    shares = counts[pairs] / len(y_true)
    draws = np.random.default_rng(seed).multinomial(len(y_true), shares, size=n_resamples)
    true, predicted = (np.eye(n_classes)[codes] for codes in pairs)  # (n_pairs, n_classes), one-hot
    hits, marked = draws @ (true * predicted), draws @ (true + predicted)
    return np.divide(2 * hits, marked, out=np.zeros(hits.shape), where=marked > 0)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The central 95 % of resampled values."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def per_class_table(y_true: np.ndarray, y_pred: np.ndarray, classes: list[str], *, seed: int = 0) -> pd.DataFrame:
    """Precision, recall and F1 a class with 95 % intervals (Wilson; bootstrap for F1).

    Returns
    -------
    DataFrame
        Columns label, n (images of the class), and for each score its value, _low and _high. A score that does not
        exist (no image, no prediction) is nan with the interval 0 to 1.
    """
    counts = confusion_counts(y_true, y_pred, len(classes))
    resampled = f1_resamples(y_true, y_pred, len(classes), n_resamples=1000, seed=seed)
    rows = []
    for code, label in enumerate(classes):
        hits, n, predicted = counts[code, code], counts[code].sum(), counts[:, code].sum()
        f1 = proportion(0, 0)
        if n + predicted:
            f1 = Estimate(2 * hits / (n + predicted), *percentiles(resampled[:, code]))
        scores = {
            "precision": proportion(hits, predicted),
            "recall": proportion(hits, n),
            "f1": f1,
        }
        row: dict[str, object] = {"label": label, "n": int(n)}
        for name, score in scores.items():
            row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        rows.append(row)
    return pd.DataFrame(rows)


def precision_recall(y_true: np.ndarray, proba: np.ndarray, classes: list[str]) -> dict[str, tuple[np.ndarray, ...]]:
    """One-vs-rest precision and recall of each class that has images, over all thresholds.

    Returns
    -------
    dict of label -> (recall, precision, average precision)
        Two float arrays of equal length, recall falling, and a float; the worst average precision first.
    """
    found = {}
    for code, label in enumerate(classes):
        if not (y_true == code).any():
            continue
        precision, recall, _ = precision_recall_curve(y_true == code, proba[:, code])
        found[label] = (recall, precision, float(average_precision_score(y_true == code, proba[:, code])))
    return dict(sorted(found.items(), key=lambda item: item[1][2]))


@dataclass(frozen=True)
class PairedComparison:
    """Two classifiers on the same images.

    Parameters
    ----------
    n : int
        Images.
    only_first, only_second : int
        Images that only the one, or only the other, gets right.
    difference : Estimate
        Accuracy of the first less that of the second, with a normal 95 % interval over paired outcomes.
    p_value : float
        McNemar's exact test (McNemar 1947): two-sided binomial on the discordant images.
    """

    n: int
    only_first: int
    only_second: int
    difference: Estimate
    p_value: float

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy difference."""
        discordant, gap = self.only_first + self.only_second, self.only_first - self.only_second
        return float(np.sqrt(max(discordant - gap**2 / self.n, 0.0)) / self.n) if self.n else float("nan")


def compare_paired(y_true: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedComparison:
    """Compare two classifiers' predictions, int arrays of shape (n,), on the same images."""
    right_first, right_second = first == y_true, second == y_true
    b, c = int((right_first & ~right_second).sum()), int((~right_first & right_second).sum())
    n = len(y_true)
    if not n:
        return PairedComparison(0, 0, 0, Estimate(float("nan"), -1.0, 1.0), 1.0)
    p_value = binomtest(b, b + c).pvalue if b + c else 1.0
    difference = (b - c) / n
    half = 1.959964 * np.sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    return PairedComparison(n, b, c, Estimate(difference, difference - half, difference + half), float(p_value))


def reliability_bins(y_true: np.ndarray, proba: np.ndarray, n_bins: int = 10) -> pd.DataFrame:
    """Confidence against accuracy, in equal-width bins of the largest probability.

    Parameters
    ----------
    y_true : ndarray of shape (n,), int
    proba : ndarray of shape (n, n_classes), float

    Returns
    -------
    DataFrame
        Columns low, high (edges), n, confidence (mean largest probability), accuracy, accuracy_low, accuracy_high;
        empty bins are left out.
    """
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y_true
    index = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    rows = []
    for code in np.unique(index):
        members = index == code
        share = proportion(int(right[members].sum()), int(members.sum()))
        edges = (code / n_bins, (code + 1) / n_bins)
        rows.append((*edges, int(members.sum()), float(confidence[members].mean()), share.value, share.low, share.high))
    columns = ["low", "high", "n", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(rows, columns=columns)


def expected_calibration_error(y_true: np.ndarray, proba: np.ndarray, n_bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over bins, weighted by their images (Naeini et al. 2015)."""
    if not len(y_true):
        return float("nan")
    bins = reliability_bins(y_true, proba, n_bins)
    return float(((bins["confidence"] - bins["accuracy"]).abs() * bins["n"]).sum() / bins["n"].sum())


def calibration_change(y_true: np.ndarray, before: np.ndarray, after: np.ndarray, n_bins: int = 10) -> Estimate:
    """How much larger the calibration error of one classifier is than another's, with a paired bootstrap interval.

    Parameters
    ----------
    y_true : ndarray of shape (n,), int
    before, after : ndarray of shape (n, n_classes), float
        Their probabilities of the same images.
    """
    n = len(y_true)
    if not n:
        return Estimate(float("nan"), -1.0, 1.0)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=1000)
    errors = []
    for proba in (before, after):
        confidence = proba.max(axis=1)
        bins = np.eye(n_bins)[np.minimum((confidence * n_bins).astype(int), n_bins - 1)]
        gaps = bins * (confidence - (proba.argmax(axis=1) == y_true))[:, None]
        errors.append(np.abs(draws @ gaps).sum(axis=1) / n)
    value = expected_calibration_error(y_true, after, n_bins) - expected_calibration_error(y_true, before, n_bins)
    return Estimate(value, *percentiles(errors[1] - errors[0]))


def brier_score(y_true: np.ndarray, proba: np.ndarray) -> float:
    """Mean squared distance between probabilities and the one-hot truth, 0 (perfect) to 2 (Brier 1950)."""
    if not len(y_true):
        return float("nan")
    truth = np.eye(proba.shape[1])[y_true]
    return float(((proba - truth) ** 2).sum(axis=1).mean())


def log_loss(y_true: np.ndarray, proba: np.ndarray) -> float:
    """Mean negative log-probability of the true class, in nats; probabilities are kept above 1e-15."""
    if not len(y_true):
        return float("nan")
    return float(-np.log(np.clip(proba[np.arange(len(y_true)), y_true], 1e-15, 1.0)).mean())
