"""Small seeded data and hand-made searches that several tests share."""

import numpy as np
import pandas as pd

from lib.classifiers import Spec
from lib.search import COLUMNS, Search
from lib.splits import folds as make_folds

LINEAR = Spec("logistic_regression", C=0.01)
NETWORK = Spec("mlp", hidden=(8,), alpha=1.0)

# Five test images of three classes, one of which has none, and what a model says to them; two answers are wrong.
LABELS = np.array([0, 0, 0, 1, 1])
CLASSES = ["a", "b", "absent"]
PROBA = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0], [0.95, 0.05, 0.0]])
MANIFEST = pd.DataFrame(
    {
        "sha256": list("vwxyz"),
        "path": [f"{name}.png" for name in "vwxyz"],
        "split": "test",
        "label": ["a", "a", "a", "b", "b"],
        "width": 28,
    },
    index=[7, 3, 9, 1, 5],
)


def draw(n=120, n_classes=3, gap=2.0, dim=12, seed=0):
    """Seeded clouds around class centres `gap` apart: vectors, labels, four folds."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    vectors[np.arange(n), labels] += gap
    return vectors, labels, folds_of(labels)


def folds_of(labels):
    return make_folds(labels, np.arange(len(labels)).astype(str), n_folds=4, seed=0)


def search_of(accuracies, losses=None, specs=None, proba=None):
    """A hand-made search: a list of fold accuracies a spec, and the out-of-fold probabilities of the best."""
    losses = losses or [0.5] * len(accuracies)
    rows = [
        (spec, fold, accuracy, losses[spec], 1.0)
        for spec, scores in enumerate(accuracies)
        for fold, accuracy in enumerate(scores)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return Search(table, specs or [LINEAR] * len(accuracies), np.eye(2) if proba is None else proba)
