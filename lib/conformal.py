"""Sets of classes that hold the true one as often as promised, whatever the model (Vovk et al. 2005)."""

import numpy as np

COVERAGE = 0.9  # promised


def conformal_threshold(labels: np.ndarray, proba: np.ndarray, coverage: float = COVERAGE) -> float:
    """The least probability with which a class belongs to a set (Sadinle et al. 2019, "least ambiguous" sets).

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        Of images that neither trained nor are to be answered: the validation part.
    proba : ndarray of shape (n, n_classes), float
    coverage : float
        Share of sets that hold the true class.

    Returns
    -------
    float
        0 (every class) where there are too few images for the promise: fewer than coverage / (1 - coverage).
    """
    n = len(labels)
    rank = int(np.floor((n + 1) * (1 - coverage) + 1e-9))
    if rank < 1:
        return 0.0
    return float(np.sort(proba[np.arange(n), labels])[rank - 1])


def conformal_sets(proba: np.ndarray, threshold: float) -> np.ndarray:
    """Which classes are in each image's set: (n, n_classes), bool; the most probable class always is."""
    sets = proba >= threshold
    sets[np.arange(len(proba)), proba.argmax(axis=1)] = True
    return sets


def resplit_coverages(
    labels: np.ndarray, proba: np.ndarray, n_calibration: int, *, n_resplits: int = 200, seed: int = 0
) -> np.ndarray:
    """Coverage when the same images are dealt anew into calibration and test; shape (n_resplits,).

    Its mean is at least the promise if the method is sound; its spread is what a single calibration part hides.
    """
    draw = np.random.default_rng(seed)
    found = np.empty(n_resplits)
    for number in range(n_resplits):
        order = draw.permutation(len(labels))
        calibration, rest = order[:n_calibration], order[n_calibration:]
        sets = conformal_sets(proba[rest], conformal_threshold(labels[calibration], proba[calibration]))
        found[number] = sets[np.arange(len(rest)), labels[rest]].mean()
    return found
