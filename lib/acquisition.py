"""Which images to label next: those that the model is least sure of, and no two alike. Pure."""

import numpy as np
from sklearn.preprocessing import normalize

CANDIDATES = 3  # times as many of the least sure images are looked at as are asked for


def next_to_label(vectors: np.ndarray, confidence: np.ndarray, n: int) -> np.ndarray:
    """Places of at most n images, in the order to label them.

    Of the least sure images the least sure one goes first, then always the one farthest from those chosen already: the
    greedy cover of Sener and Savarese (Active Learning for Convolutional Neural Networks, 2018) among uncertain images.

    Parameters
    ----------
    vectors : ndarray of shape (m, dim), float32
    confidence : ndarray of shape (m,), float
        Largest probability.
    n : int
    """
    candidates = np.argsort(confidence, kind="stable")[: CANDIDATES * n]
    if not len(candidates) or n < 1:
        return candidates[:0]
    unit = normalize(vectors[candidates])
    chosen, nearest = [0], unit @ unit[0]
    while len(chosen) < min(n, len(candidates)):
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
    return candidates[chosen]
