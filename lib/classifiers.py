"""Scaler + PCA + classifier pipelines, and the spaces that training searches."""

from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

FAMILIES = {"logistic_regression": "logistic regression", "mlp": "multi-layer perceptron"}
C_GRID = tuple(float(value) for value in np.logspace(-5, 3, 17))
PCA_WIDTHS = (None, 64, 256)
MLP_SIZES = ((64,), (256,), (128, 64))
MLP_ALPHAS = (0.1, 1.0, 10.0)
ROWS = 1024  # that preprocessing works on at a time


class RootNormalizer(TransformerMixin, BaseEstimator):
    """Signed square root, then length 1: dampens the few large activations of a pooled ReLU vector.

    The "power normalisation" of Perronnin et al. 2010 (Improving the Fisher Kernel), here in front of the scaler.

    Parameters
    ----------
    copy : bool
        False overwrites the input of `transform`, to save memory.
    """

    def __init__(self, *, copy: bool = True):
        self.copy = copy

    def fit(self, X: np.ndarray, y: object = None) -> "RootNormalizer":
        """Nothing to learn."""
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, d), each row of Euclidean length 1 (or all 0)."""
        normalized = np.empty_like(X) if self.copy else X
        for rows in gen_batches(len(X), ROWS):
            rooted = np.sqrt(np.abs(X[rows]))
            length = np.linalg.norm(rooted, axis=1, keepdims=True)
            rooted /= np.where(length > 0, length, 1)
            np.copysign(rooted, X[rows], out=normalized[rows])
        return normalized


class ChunkedScaler(StandardScaler):
    """A StandardScaler fitted some rows at a time, since a fit in one go copies all of them in float64."""

    def fit(self, X: np.ndarray, y: object = None) -> "ChunkedScaler":
        """Mean and variance of each column of X, shape (n, d), in float64."""
        self._reset()
        for rows in gen_batches(len(X), ROWS):
            self.partial_fit(X[rows])
        return self


class ExactPCA(PCA):
    """PCA by the exact method that suits the shape: of the covariance for many rows, of the rows themselves for few.

    scikit-learn would choose its randomized solver here: it gets the narrow directions wrong, holds a second copy of
    the rows, and costs more than the covariance does where rows are many. Of the covariance only the directions that
    are kept are computed: a third of the time and a tenth of the memory of all.
    """

    def fit(self, X: np.ndarray, y: object = None) -> "ExactPCA":
        """The n_components leading directions of X, shape (n, d); n_components is an int."""
        n, dim = X.shape
        if n <= dim:
            self.svd_solver = "full"
            return super().fit(X)
        self.mean_ = X.mean(axis=0)
        covariance = (X.T @ X - n * np.outer(self.mean_, self.mean_)) / (n - 1)
        total = np.trace(covariance)
        leading = (dim - self.n_components, dim - 1)
        values, directions = eigh(covariance, subset_by_index=leading, overwrite_a=True, check_finite=False)
        directions = directions.T[::-1]
        largest = np.abs(directions).argmax(axis=1)  # made positive, so that the signs do not depend on the machine
        signs = np.sign(directions[np.arange(self.n_components), largest])
        self.components_ = np.ascontiguousarray(directions * signs[:, None], dtype=X.dtype)
        self.explained_variance_ = np.maximum(values[::-1], 0)
        self.explained_variance_ratio_ = self.explained_variance_ / total
        self.n_components_, self.n_features_in_ = self.n_components, dim
        return self

    def fit_transform(self, X: np.ndarray, y: object = None) -> np.ndarray:
        """(n, d) -> (n, n_components)."""
        return self.fit(X).transform(X)


@dataclass(frozen=True)
class Spec:
    """One point of a search space: everything that decides a classifier but its training data.

    Parameters
    ----------
    family : {"logistic_regression", "mlp"}
    root : bool
        Whether a RootNormalizer stands before the scaler.
    n_components : int or None
        PCA width; None for no PCA.
    C : float
        Inverse L2 penalty of logistic regression.
    hidden : tuple of int
        Units of the MLP's hidden layers.
    alpha : float
        L2 penalty of the MLP.
    """

    family: str
    root: bool = False
    n_components: int | None = None
    C: float | None = None
    hidden: tuple[int, ...] | None = None
    alpha: float | None = None

    def classifier(self, seed: int) -> LogisticRegression | MLPClassifier:
        """The unfitted classifier alone."""
        if self.family == "logistic_regression":
            return LogisticRegression(C=self.C, max_iter=1000, random_state=seed)
        # The epochs are a budget: longer training with smaller steps cost twice the time and scored the same.
        return MLPClassifier(
            self.hidden,
            alpha=self.alpha,
            learning_rate_init=3e-3,
            max_iter=40,
            tol=1e-3,
            n_iter_no_change=4,
            random_state=seed,
        )

    def preprocessing(self, *, in_place: bool = False) -> list[tuple[str, object]]:
        """The unfitted steps before the classifier; `in_place` lets them overwrite their input, to save memory."""
        steps: list[tuple[str, object]] = [("root", RootNormalizer(copy=not in_place))] if self.root else []
        steps.append(("scaler", ChunkedScaler(copy=not (in_place or self.root))))  # roots are a copy already
        if self.n_components:
            steps.append(("pca", ExactPCA(self.n_components)))
        return steps

    def preprocessing_only(self) -> "Spec":
        """The spec without what concerns the classifier: equal for specs that can share their preprocessing."""
        return Spec("", self.root, self.n_components)

    def build(self, seed: int, *, in_place: bool = False) -> Pipeline:
        """The unfitted pipeline."""
        return Pipeline([*self.preprocessing(in_place=in_place), ("classifier", self.classifier(seed))])

    def to_json(self) -> dict:
        """Plain values, without those that mean nothing for the family."""
        return {key: value for key, value in asdict(self).items() if value is not None or key == "n_components"}

    @classmethod
    def from_json(cls, values: dict) -> "Spec":
        """Inverse of `to_json`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def __str__(self) -> str:
        steps = (["square root"] if self.root else []) + ["scaler"]
        steps += [f"PCA {self.n_components}"] if self.n_components else []
        if self.family == "logistic_regression":
            steps.append(f"logistic regression (C = {self.C:.2g})")
        else:
            steps.append(f"MLP ({', '.join(map(str, self.hidden or ()))}; alpha = {self.alpha:g})")
        return " + ".join(steps)


def usable_widths(widths: tuple[int | None, ...], n_train: int, dim: int) -> tuple[int | None, ...]:
    """Those PCA widths that the smallest training fold and the vectors allow; no PCA always does."""
    return tuple(width for width in widths if width is None or width < min(n_train, dim))


def logistic_space(n_train: int, dim: int) -> list[list[Spec]]:
    """Regularisation paths: each inner list has one preprocessing and ascending C."""
    widths = usable_widths(PCA_WIDTHS, n_train, dim)
    return [
        [Spec("logistic_regression", root, width, C=C) for C in C_GRID]
        for root, width in product((False, True), widths)
    ]


def mlp_space(n_train: int, dim: int) -> list[Spec]:
    """Every size and penalty of the MLP, on the scaled vectors and on the widest usable PCA of their roots."""
    preprocessing = [(False, None), (True, usable_widths(PCA_WIDTHS, n_train, dim)[-1])]
    return [
        Spec("mlp", root, width, hidden=hidden, alpha=alpha)
        for (root, width), hidden, alpha in product(preprocessing, MLP_SIZES, MLP_ALPHAS)
    ]
