"""The shape of an embedding space: variance, map, centroids, neighbours. Arrays in, arrays out."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler, normalize

PCA_WIDTH = 50  # t-SNE starts from so many principal components, as its authors advise


def variance_ratios(vectors: np.ndarray, *, seed: int, limit: int = 256) -> np.ndarray:
    """Explained variance of the leading principal components of standardised vectors, shape (at most limit,)."""
    width = min(limit, *vectors.shape)
    return PCA(width, random_state=seed).fit(StandardScaler().fit_transform(vectors)).explained_variance_ratio_


def told_variance(ratios: np.ndarray, share: float = 0.9) -> str:
    """How many components hold most of the variance, in words; `ratios` from `variance_ratios`."""
    held = np.cumsum(ratios)
    if held[-1] < share:
        return f"The first {len(ratios)} components hold {100 * held[-1]:.0f} % of the variance."
    return f"{np.searchsorted(held, share) + 1} components hold {100 * share:.0f} % of the variance."


def tsne_map(vectors: np.ndarray, *, seed: int, perplexity: float) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) of standardised vectors: (n, dim) -> (n, 2) float32.

    The perplexity is lowered to a quarter of the images where there are few.
    """
    if (vectors == vectors[0]).all():
        return np.zeros((len(vectors), 2), dtype=np.float32)  # t-SNE would divide by their spread
    width = min(PCA_WIDTH, *vectors.shape)
    reduced = PCA(width, random_state=seed).fit_transform(StandardScaler().fit_transform(vectors))
    tsne = TSNE(perplexity=min(perplexity, len(vectors) / 4), init="pca", random_state=seed)
    return tsne.fit_transform(reduced)


def centroid_cosines(vectors: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Cosines between class centroids around the common mean: (n, dim), (n,) -> (n_classes, n_classes).

    Pooled activations are all positive, so without taking the mean off every pair would look alike.
    """
    centred = vectors - vectors.mean(axis=0)
    centroids = normalize(np.stack([centred[labels == code].mean(axis=0) for code in range(n_classes)]))
    return centroids @ centroids.T


def nearest_neighbours(
    queries: np.ndarray, vectors: np.ndarray, k: int, *, skip: np.ndarray | None = None
) -> np.ndarray:
    """Indices into `vectors` of the k most similar by cosine, shape (n_queries, k), nearest first.

    `skip` holds for each query the index of a vector that does not count, such as the query itself.
    """
    similarity = normalize(queries) @ normalize(vectors).T
    if skip is not None:
        similarity[np.arange(len(queries)), skip] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def sample_indices(n: int, size: int, *, seed: int) -> np.ndarray:
    """At most `size` of n indices, drawn without replacement and sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:size])
