"""When a model should stay silent: accuracy among the answers it is sure of (El-Yaniv and Wiener 2010)."""

import numpy as np
import pandas as pd

from lib.metrics import proportion


def risk_coverage(right: np.ndarray, confidence: np.ndarray, n_points: int = 40) -> pd.DataFrame:
    """Accuracy of the most confident answers, for growing shares of the images.

    Parameters
    ----------
    right : ndarray of shape (n,), bool
    confidence : ndarray of shape (n,), float

    Returns
    -------
    DataFrame
        Columns coverage (share answered), threshold (least confidence), n, accuracy, low, high.
    """
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    rows = []
    for n in np.unique(np.linspace(1, len(right), min(n_points, len(right))).astype(int)):
        share = proportion(int(hits[n - 1]), int(n))
        rows.append((n / len(right), confidence[order[n - 1]], int(n), share.value, share.low, share.high))
    return pd.DataFrame(rows, columns=["coverage", "threshold", "n", "accuracy", "low", "high"])


def abstain_threshold(right: np.ndarray, confidence: np.ndarray, target: float) -> float:
    """The least confidence from which answers are right at least `target` of the time; above 1 where none is.

    Parameters
    ----------
    right, confidence : ndarray of shape (n,)
        Of the validation part: the test part only tells what the threshold is worth.
    target : float
    """
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(right) + 1)
    last = np.r_[np.diff(confidence[order]) != 0, True] if len(right) else np.zeros(0, dtype=bool)
    good = np.flatnonzero((accuracy >= target) & last)  # equal confidences are answered together or not at all
    return float(confidence[order[good[-1]]]) if len(good) else float("inf")
