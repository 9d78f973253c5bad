"""Are images of a window drawn as the reference images were? Pure: arrays in, numbers and tables out.

Window and reference are pooled and the pool is dealt out again at random: how often is a chance window at least as far
from the rest as the real one? Whatever the statistic, such a test is wrong as often as it says (Fisher 1935; for images
Rabanser et al., Failing Loudly, 2019), where a fixed threshold on a distance is not. Several statistics are one test by
the smallest of their p-values, whose own distribution the same permutations give (Westfall and Young 1993).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

DIM = 64  # directions that vectors are compared in
LEAST = 50  # images of a window; of fewer nothing is said
LEVEL = 0.05
# Permutations: of every window, and of those that are still suspicious (p at most this) after so many.
N_QUICK, N_MORE, N_FULL = 199, 999, 4999
SUSPICIOUS = {N_QUICK: 0.1, N_MORE: 0.02}
SHRINKAGE = 0.1  # of the classifier that tells windows from references, a share of the mean variance of a direction
# (n_images, n_permutations) of 0 and 1, 1 for the images of a window -> the statistic of each permutation.
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Space:
    """Directions and width in which vectors are compared, fitted on images that are then compared with none.

    Fitted on the reference it would suit the reference better than any window, and ring for that.
    """

    pipeline: Pipeline
    width: float

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) -> (n, at most DIM), float32."""
        if not len(vectors):
            return np.empty((0, self.pipeline[-1].n_components_), np.float32)
        return self.pipeline.transform(vectors).astype(np.float32)


def fit_space(vectors: np.ndarray) -> Space:
    """Scale, PCA and the median distance of images; (n, dim) float32 with n above 1."""
    n_components = min(DIM, len(vectors) - 1, vectors.shape[1])
    pipeline = make_pipeline(StandardScaler(), PCA(n_components, svd_solver="covariance_eigh"))
    points = pipeline.fit_transform(vectors.astype(np.float64))[:1000]
    squares = ((points**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * points @ points.T).clip(0)
    distances = np.sqrt(squares[np.triu_indices(len(points), 1)])
    return Space(pipeline, float(np.median(distances)) or 1.0)


def discrepancy(points: np.ndarray, width: float) -> Statistic:
    """Squared maximum mean discrepancy with a Gaussian kernel of this width (Gretton et al. 2012); points (n, k)."""
    gram = rbf_kernel(points, gamma=0.5 / width**2).astype(np.float32)
    rows, total = gram.sum(axis=1), float(gram.sum())

    def values(members: np.ndarray) -> np.ndarray:
        n, m, within, touching = *_sizes(members), np.einsum("ij,ij->j", gram @ members, members), rows @ members
        return within / n**2 - 2 * (touching - within) / (n * m) + (total - 2 * touching + within) / m**2

    return values


def separability(points: np.ndarray) -> Statistic:
    """Area under the curve of a linear classifier that tells windows from references, each image left out in turn.

    A classifier as a test of two samples (Lopez-Paz and Oquab 2017); that one is linear, by ridge regression, lets
    leaving out and permuting be products of matrices.
    """
    n, k = points.shape
    centred = points - points.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    squares = singular**2
    hat = ((left * (squares / (squares + SHRINKAGE * squares.sum() / k))) @ left.T + 1 / n).astype(np.float32)
    free = (1 - np.diag(hat))[:, None]
    places = np.arange(1, n + 1, dtype=np.float64)

    def values(members: np.ndarray) -> np.ndarray:
        scores = (hat @ members - (1 - free) * members) / free
        ranked = np.take_along_axis(members, np.argsort(scores, axis=0), axis=0)
        n_window, n_reference = _sizes(members)
        return (places @ ranked - n_window * (n_window + 1) / 2) / (n_window * n_reference)

    return values


def unevenness(codes: np.ndarray) -> Statistic:
    """Pearson's chi-square of categories against window or reference; codes (n,) int."""
    _, codes = np.unique(codes, return_inverse=True)
    marked = np.eye(codes.max() + 1, dtype=np.float32)[codes]
    shares = marked.mean(axis=0)[:, None]

    def values(members: np.ndarray) -> np.ndarray:
        n, m = _sizes(members)
        expected = shares * n
        return ((marked.T @ members - expected) ** 2 / expected).sum(axis=0) * (1 + n / m)

    return values


def displacement(numbers: np.ndarray) -> Statistic:
    """How far ranks of a number differ in the mean, either way (Mann and Whitney 1947); numbers (n,)."""
    ranks = rankdata(numbers)
    centred = (ranks - ranks.mean()) / len(ranks)

    def values(members: np.ndarray) -> np.ndarray:
        n, m = _sizes(members)
        return np.abs(centred @ members) * (1 / n + 1 / m)

    return values


def _sizes(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of the window and of the reference, of each permutation."""
    n = members.sum(axis=0, dtype=np.float64)
    return n, len(members) - n


@dataclass(frozen=True)
class Test:
    """What a permutation test says.

    Parameters
    ----------
    p_value : float
        Of all statistics together.
    values, p_values : dict of str to float
        Of each of them alone.
    n_permutations : int
    """

    __test__ = False  # no test of pytest's

    p_value: float
    values: dict[str, float]
    p_values: dict[str, float]
    n_permutations: int


def permutation_test(
    statistics: Mapping[str, Statistic], n_window: int, n_reference: int, *, seed: int, most: int = N_FULL
) -> Test:
    """Compare a window with a reference; of the images behind the statistics the first n_window are the window.

    Parameters
    ----------
    statistics : mapping of name to Statistic
        Large where the two differ.
    n_window, n_reference : int
    seed : int
    most : int
        N_QUICK, N_MORE or N_FULL: permutations at most. Stopping early where nothing is suspicious never makes a window
        more so.
    """
    generator = np.random.default_rng(seed)
    test = _permuted(statistics, n_window, n_reference, generator, N_QUICK)
    for n in (N_MORE, N_FULL):
        if n > most or test.p_value > SUSPICIOUS[test.n_permutations]:
            break
        test = _permuted(statistics, n_window, n_reference, generator, n)
    return test


def _permuted(
    statistics: Mapping[str, Statistic], n_window: int, n_reference: int, generator: np.random.Generator, n: int
) -> Test:  # fmt: skip
    """The test with n permutations."""
    members = np.zeros((n + 1, n_window + n_reference), dtype=np.float32)
    members[:, :n_window] = 1
    generator.permuted(members[1:], axis=1, out=members[1:])
    values = np.stack([statistic(np.ascontiguousarray(members.T)) for statistic in statistics.values()])
    p_values = rankdata(-values.round(10), "max", axis=1) / (n + 1)
    smallest = p_values.min(axis=0)
    together = float((smallest <= smallest[0]).mean())
    first = (dict(zip(statistics, column.tolist(), strict=True)) for column in (values[:, 0], p_values[:, 0]))
    return Test(together, *first, n)


def together(p_values: list[float]) -> float:
    """p-value of several tests, however they depend on each other (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))


def stability_index(reference: np.ndarray, window: np.ndarray) -> float:
    """Population stability index of counts of the same categories; below 0.1 is called stable, above 0.25 changed.

    The familiar number, and no test: by chance alone it is larger, the smaller a window and the more categories. Half
    an image is added to every count, so that an empty category does not make it infinite.
    """
    first, second = ((counts + 0.5) / (counts + 0.5).sum() for counts in (reference, window))
    return float(((second - first) * np.log(second / first)).sum())


def class_mix(confusion: np.ndarray, answered: np.ndarray, *, n_resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """True shares of the classes of a window, from answers alone, if only the mix has changed (Lipton et al. 2018).

    Black-box shift estimation: how often each class is answered is a mixture of what the reference says is answered to
    each; its weights are found by least squares that are not negative, with bootstrap intervals over both.

    Parameters
    ----------
    confusion : ndarray of shape (n_classes, n_classes), int
        Reference images by true (rows) and answered class (columns).
    answered : ndarray of shape (n_classes,), int
        Images of the window by answered class.

    Returns
    -------
    DataFrame
        A row a class: reference (share of the reference images), share, low, high.
    """
    generator = np.random.default_rng(seed)
    n_reference, n = int(confusion.sum()), int(answered.sum())
    drawn = generator.multinomial(n_reference, confusion.ravel() / n_reference, n_resamples)
    resampled = [
        _mix(counts.reshape(confusion.shape), told)
        for counts, told in zip(drawn, generator.multinomial(n, answered / n, n_resamples), strict=True)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    shares = confusion.sum(axis=1) / n_reference
    return pd.DataFrame({"reference": shares, "share": _mix(confusion, answered), "low": low, "high": high})


def _mix(confusion: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Shares of the true classes, (n_classes,), that sum to 1."""
    weights, _ = nnls(confusion.T / confusion.sum(), answered / answered.sum())
    shares = weights * confusion.sum(axis=1) / confusion.sum()
    return shares / shares.sum() if shares.sum() > 0 else answered / answered.sum()


def with_mix(labels: np.ndarray, shares: np.ndarray, *, seed: int) -> np.ndarray:
    """Places of reference images that together have these shares of classes; none twice, in rising order.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
    shares : ndarray of shape (n_classes,)
    """
    own = np.bincount(labels, minlength=len(shares)) / len(labels)
    weights = np.divide(shares, own, out=np.zeros(len(shares)), where=own > 0)
    accepted = np.random.default_rng(seed).random(len(labels)) < weights[labels] / max(weights.max(), 1e-12)
    return np.flatnonzero(accepted)
