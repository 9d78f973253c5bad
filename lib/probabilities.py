"""The probabilities of a fitted classifier by its matrix products alone.

For one image scikit-learn's checks cost some 1 ms, many times the arithmetic, and hold the interpreter's lock
meanwhile, which the other requests of a service wait for (benchmarks/serving.py).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from lib.classifiers import ChunkedScaler, ExactPCA, RootNormalizer
from lib.errors import ArtifactError

EPS = 1e-12  # what scikit-learn adds to probabilities before it takes their logarithm

Step = Callable[[np.ndarray], np.ndarray]


class Probabilities:
    """What `predict_proba` of a model answers, to 1e-6.

    Parameters
    ----------
    model : CalibratedClassifierCV
        As `lib.training.fit_calibrated` makes it.

    Raises
    ------
    ArtifactError
        If it has a step of another kind.
    """

    def __init__(self, model: CalibratedClassifierCV):
        (calibrated,) = model.calibrated_classifiers_
        self._steps = [_step(fitted) for _, fitted in calibrated.estimator.steps]
        self._beta = float(calibrated.calibrators[0].beta_)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) float32 -> (n, n_classes) float64."""
        for step in self._steps:
            vectors = step(vectors)
        return softmax(self._beta * vectors.astype(np.float64), axis=1)


def _step(fitted: Any) -> Step:
    """A fitted step of a pipeline as a function of (n, d) float32."""
    if isinstance(fitted, RootNormalizer):
        return RootNormalizer().transform
    if isinstance(fitted, ChunkedScaler):
        return partial(_scale, fitted.mean_.astype(np.float32), fitted.scale_.astype(np.float32))
    if isinstance(fitted, ExactPCA):
        return partial(_affine, fitted.components_.T, -(fitted.mean_ @ fitted.components_.T))
    if isinstance(fitted, LogisticRegression):
        return partial(_logits, fitted.coef_.T, fitted.intercept_)
    if isinstance(fitted, MLPClassifier):
        return partial(_log_proba, list(zip(fitted.coefs_, fitted.intercepts_, strict=True)))
    raise ArtifactError(f"The model has a {type(fitted).__name__}, which this version of the code never trains.")


def _scale(mean: np.ndarray, scale: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, d), standardized."""
    return (rows - mean) / scale


def _affine(weights: np.ndarray, constant: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, k)."""
    return rows @ weights + constant


def _logits(weights: np.ndarray, constant: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, n_classes); of two classes there is one logit x, which becomes (-x, x) as scikit-learn has it."""
    logits = _affine(weights, constant, rows)
    return logits if logits.shape[1] > 1 else np.hstack([-logits, logits])


def _log_proba(layers: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, n_classes), logarithms of the probabilities of a network of rectified linear units."""
    for weights, constant in layers[:-1]:
        rows = np.maximum(_affine(weights, constant, rows), 0)
    last = _affine(*layers[-1], rows)
    if last.shape[1] > 1:
        return np.log(softmax(last, axis=1) + EPS)
    second = expit(last)
    return np.log(np.hstack([1 - second, second]) + EPS)
