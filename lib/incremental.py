"""A fitted classifier brought up to date with new labels: exactly, or at once.

Exactly is a fit of the same pipeline with the same hyper-parameters on everything, old and new: with a frozen backbone
whose vectors are kept it is what a training from scratch would give, so nothing can be forgotten. At once is some
gradient steps on the new images between old ones of every class (replay, after Robins 1995): it costs the same however
many old images there are, and is only nearly as good.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from lib.classifiers import Spec
from lib.splits import folds
from lib.training import fit_calibrated

METHODS = ("exact", "instant")
EPOCHS = 10  # of an instant update
BATCH = 64
REPLAYED = 20  # old images of each class an epoch, at least
RATE = 0.05  # of Adam, by the typical size of the weights that it moves


@dataclass(frozen=True)
class Labelled:
    """Images with their labels.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    labels : ndarray of shape (n,), int
    """

    vectors: np.ndarray
    labels: np.ndarray


def refit(spec: Spec, data: Labelled, units: np.ndarray, *, n_folds: int, seed: int) -> CalibratedClassifierCV:
    """Fit a spec on all images, its temperature on out-of-fold predictions.

    Parameters
    ----------
    spec : Spec
    data : Labelled
        Old and new images; every class has at least two units.
    units : ndarray of shape (n,), str
        From `lib.splits.units`.
    n_folds : int
        As many as the smallest class allows, and at most this.
    seed : int

    Raises
    ------
    DataError
        If a class is too small for two folds.
    """
    smallest = min(len(set(units[data.labels == code])) for code in np.unique(data.labels))
    parts = folds(data.labels, units, n_folds=max(2, min(n_folds, smallest)), seed=seed)
    return fit_calibrated(spec, data.vectors, data.labels, parts, seed=seed)


def instant(
    model: CalibratedClassifierCV, old: Labelled, new: Labelled, n_classes: int, *, seed: int
) -> CalibratedClassifierCV:
    """A copy of a fitted model that has seen new images; its preprocessing and its temperature stay as they are.

    Parameters
    ----------
    model : CalibratedClassifierCV
        From `lib.training.fit_calibrated`.
    old, new : Labelled
        What it was trained on, and what is new.
    n_classes : int
        At least as many as it knows: codes beyond are new classes.
    seed : int
        Draws the old images that are shown again.
    """
    updated = deepcopy(model)
    (calibrated,) = updated.calibrated_classifiers_
    pipeline = calibrated.estimator
    preprocess, classifier = pipeline[:-1], pipeline[-1]
    if isinstance(classifier, LogisticRegression) and len(model.classes_) == 2 < n_classes:
        calibrated.calibrators[0].beta_ *= 2  # of one logit x scikit-learn makes (-x, x); from now on there is one each
    draw, n_old = np.random.default_rng(seed), len(old.labels)
    network = _network(classifier, preprocess.transform(new.vectors[:1]), n_classes, n_old + len(new.labels), seed)
    places = [np.flatnonzero(old.labels == code) for code in range(n_classes)]
    replayed = max(REPLAYED, -(-len(new.labels) // n_classes))
    for _ in range(EPOCHS):
        rows = np.concatenate([draw.choice(place, replayed) for place in places if len(place)])
        vectors = preprocess.transform(np.concatenate([old.vectors[rows], new.vectors]))
        network.partial_fit(vectors, np.concatenate([old.labels[rows], new.labels]))
    pipeline.steps[-1] = ("classifier", _like(classifier, network))
    calibrated.classes = updated.classes_ = np.arange(n_classes)
    return updated


def _network(
    classifier: LogisticRegression | MLPClassifier, example: np.ndarray, n_classes: int, n: int, seed: int
) -> MLPClassifier:
    """A network that answers as the classifier does and has an output for each class, ready for `partial_fit`.

    Logistic regression is a network without hidden layer; its penalty is that of C for n images.
    """
    if isinstance(classifier, LogisticRegression):
        hidden, alpha = (), BATCH / (classifier.C * n)
        weights, constants = [classifier.coef_.T], [classifier.intercept_]
    else:
        hidden, alpha = classifier.hidden_layer_sizes, classifier.alpha
        weights, constants = classifier.coefs_, classifier.intercepts_
    last, constant = _widened(weights[-1], constants[-1], n_classes)
    rate = RATE * min(float(np.sqrt(np.mean(np.square(array)))) for array in weights)
    network = MLPClassifier(hidden, alpha=alpha, batch_size=BATCH, learning_rate_init=rate, random_state=seed)
    some = np.repeat(example, BATCH, axis=0)  # scikit-learn makes the layers at the first call
    network.partial_fit(some, np.arange(BATCH) % n_classes, classes=np.arange(n_classes))
    network.coefs_ = [array.astype(example.dtype) for array in (*weights[:-1], last)]
    network.intercepts_ = [array.astype(example.dtype) for array in (*constants[:-1], constant)]
    del network._optimizer  # what it remembers is of the layers before
    return network


def _widened(weights: np.ndarray, constants: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The last layer, (d, n_outputs) and (n_outputs,), with an output for each class; new ones begin at zero.

    Two classes have one output x, which stands for (-x / 2, x / 2); they keep it as long as there are two.
    """
    if weights.shape[1] == 1 and n_classes > 2:
        weights, constants = np.hstack([-weights, weights]) / 2, np.concatenate([-constants, constants]) / 2
    n_new = n_classes - weights.shape[1] if n_classes > 2 else 0
    return np.pad(weights, ((0, 0), (0, n_new))), np.pad(constants, (0, n_new))


def _like(classifier: LogisticRegression | MLPClassifier, network: MLPClassifier) -> LogisticRegression | MLPClassifier:
    """The network as a classifier of the kind it was made from."""
    if isinstance(classifier, LogisticRegression):
        classifier.coef_, classifier.intercept_ = network.coefs_[0].T, network.intercepts_[0]
        classifier.classes_ = network.classes_
        return classifier
    return network
