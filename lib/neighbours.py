"""The nearest others of every vector: what surroundings, duplicates, votes and outliers are told from."""

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from lib.progress import Progress, quiet

K = 10  # the distance to so many says how dense a vector's surroundings are
BLOCK = 1024  # rows compared with all others at a time


@dataclass(frozen=True)
class Neighbours:
    """The k nearest other vectors of each of n vectors.

    Parameters
    ----------
    indices : ndarray of shape (n, k), int
        Nearest first.
    distances : ndarray of shape (n, k), float32
        1 - cosine, from 0 to 2.
    """

    indices: np.ndarray
    distances: np.ndarray

    @property
    def around(self) -> np.ndarray:
        """Distance to the last neighbour, shape (n,)."""
        return self.distances[:, -1]


def find_neighbours(vectors: np.ndarray, k: int = K, *, progress: Progress = quiet) -> Neighbours:
    """Exact nearest neighbours by cosine, so the time grows with the square of n.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    k : int
        Lowered to n - 1 where there are fewer.
    progress : callable
    """
    n = len(vectors)
    k = min(k, n - 1)
    unit = normalize(vectors)
    indices, distances = np.empty((n, k), dtype=int), np.empty((n, k), dtype=np.float32)
    blocks = list(gen_batches(n, BLOCK))
    for block in progress(blocks, len(blocks), f"nearest neighbours, blocks of {BLOCK}"):
        cosine = unit[block] @ unit.T
        rows = np.arange(len(cosine))
        cosine[rows, rows + block.start] = -np.inf
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(cosine, near, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        indices[block] = np.take_along_axis(near, order, axis=1)
        distances[block] = np.clip(1 - np.take_along_axis(found, order, axis=1), 0, 2)
    return Neighbours(indices, distances)


def kth_distances(cosines: np.ndarray, k: int = K) -> np.ndarray:
    """Distance, 1 - cosine, to the k-th nearest of many: (n, n_train) cosines -> (n,)."""
    k = min(k, cosines.shape[1])
    return 1 - np.partition(cosines, cosines.shape[1] - k, axis=1)[:, -k]
