"""Figures of the embedding space."""

import matplotlib.pyplot as plt
import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from lib.plots.style import ACCENT, COLORS, MARKERS, SEQUENTIAL, class_styles, matrix_size, new_axes, plain


def plot_variance(ratios: np.ndarray, ax: plt.Axes | None = None) -> plt.Axes:
    """Cumulative explained variance of principal components; `ratios` of shape (n_components,) sum to at most 1."""
    ax = new_axes(ax, height=3.2)
    cumulative = np.cumsum(ratios)
    ax.plot(np.arange(1, len(ratios) + 1), 100 * cumulative, color=ACCENT)
    for share in (0.5, 0.9):
        if cumulative[-1] >= share:
            needed = int(np.searchsorted(cumulative, share)) + 1
            ax.plot(needed, 100 * share, "o", color=ACCENT)
            ax.annotate(f"{share:.0%}: {needed}", (needed, 100 * share), xytext=(8, -10), textcoords="offset points")
    ax.set(xlabel="principal components", ylabel="explained variance (%)", ylim=(0, 102))
    ax.set_title(f"How many directions matter (of {len(ratios)})")
    return ax


def plot_map(
    points: np.ndarray, labels: np.ndarray, classes: list[str], title: str, ax: plt.Axes | None = None
) -> plt.Axes:
    """Scatter of (n, 2) points by class code, colour and marker a class; beyond 100 classes they repeat: no legend."""
    columns = -(-len(classes) // 25)
    ax = new_axes(ax, 6.0 + 2.0 * min(columns, 4), 6.0)
    for code, style in enumerate(class_styles(len(classes))):
        members = points[labels == code]
        ax.scatter(*members.T, s=14, alpha=0.75, linewidths=0, label=plain(classes[code]), **style)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)
    if len(classes) <= len(COLORS) * len(MARKERS):
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=2, ncols=columns)
    return ax


def plot_centroid_cosines(cosines: np.ndarray, classes: list[str], ax: plt.Axes | None = None) -> plt.Axes:
    """Heat map of cosine similarities between class centroids, similar classes beside each other."""
    side, font = matrix_size(len(classes), 0.42)
    ax = new_axes(ax, side + 1, side)
    distances = np.clip(1 - cosines, 0, None)
    np.fill_diagonal(distances, 0)
    order = leaves_list(linkage(squareform(distances, checks=False), "average")) if len(classes) > 2 else [0, 1]
    image = ax.imshow(cosines[np.ix_(order, order)], cmap=SEQUENTIAL)
    names = [plain(classes[code]) for code in order]
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=font)
    ax.set_yticks(range(len(names)), names, fontsize=font)
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label="cosine of class centroids", shrink=0.8)
    ax.set_title(f"Which classes look alike ({len(classes)} classes)")
    return ax
