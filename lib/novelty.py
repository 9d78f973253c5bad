"""Images of no known class: told by how far they are from everything that was trained on."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from lib.metrics import proportion
from lib.neighbours import kth_distances

REFUSED = 0.05  # share of images of known classes that is refused by mistake
MAX_TRAIN, MAX_TEST = 5000, 1000  # images compared; more are drawn from


def held_out_recall(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    classes: list[str],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """How well a class that was not trained on would be told: each class is left out in turn.

    Parameters
    ----------
    train, test : ndarray of shape (n, dim), float32
        Vectors as the backbone gives them: on these, of what was tried, distances tell most.
    train_labels, test_labels : ndarray of shape (n,), int
    classes : list of str
    seed : int
        Draws the images compared where there are more than MAX_TRAIN and MAX_TEST.

    Returns
    -------
    DataFrame
        A row a class with test images: label, n, recall of it with its interval low, high when REFUSED of the others
        are refused too, and auroc.
    """
    draw = np.random.default_rng(seed)
    rows = draw.permutation(len(train))[:MAX_TRAIN]
    train, train_labels = train[rows], train_labels[rows]
    rows = draw.permutation(len(test))[:MAX_TEST]
    test, test_labels = test[rows], test_labels[rows]
    cosines = normalize(test) @ normalize(train).T
    found = []
    for code, label in enumerate(classes):
        new = test_labels == code
        known = train_labels != code
        if not new.any() or new.all() or not known.any():
            continue
        distances = kth_distances(cosines[:, known])
        caught = distances[new] > np.quantile(distances[~new], 1 - REFUSED)
        share = proportion(int(caught.sum()), int(new.sum()))
        found.append((label, int(new.sum()), share.value, share.low, share.high, roc_auc_score(new, distances)))
    return pd.DataFrame(found, columns=["label", "n", "recall", "low", "high", "auroc"])
