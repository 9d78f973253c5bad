"""Figures of the data as they came: counts, sizes, norms."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots.style import ACCENT, SPLIT_COLORS, new_axes, plain


def plot_class_counts(counts: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Stacked bars of images a class and split; `counts` has classes as rows, splits as columns."""
    ax = new_axes(ax, height=max(2.0, 0.32 * len(counts) + 1.2))
    left = np.zeros(len(counts))
    for split in counts.columns:
        ax.barh(range(len(counts)), counts[split], left=left, label=split, color=SPLIT_COLORS[split])
        left += counts[split].to_numpy()
    ax.set_yticks(range(len(counts)), [plain(label) for label in counts.index])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="images", title=f"Images a class and split (n = {int(left.sum()):,})")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_image_sizes(width: np.ndarray, height: np.ndarray, ax: plt.Axes | None = None) -> plt.Axes:
    """Width against height in pixels, logarithmic, larger dots for sizes that are frequent."""
    ax = new_axes(ax, 5.5, 4.5)
    sizes = pd.DataFrame({"width": width, "height": height}).value_counts().reset_index()
    ax.scatter(
        sizes["width"], sizes["height"], s=15 + 200 * sizes["count"] / sizes["count"].max(), alpha=0.6, color=ACCENT
    )
    low, high = min(width.min(), height.min()) / 1.3, max(width.max(), height.max()) * 1.3
    ax.plot([low, high], [low, high], color="#bbbbbb", linewidth=1, zorder=0)
    ax.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(low, high),
        xlabel="width (pixels)",
        ylabel="height (pixels)",
    )
    ticks = np.unique(np.geomspace(low, high, 7)[1:-1].round().astype(int))  # a decade's own would crowd in a short one
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.set_ticks([], minor=True)
    ax.set_title(f"Image sizes (n = {len(width):,}; line: square)")
    return ax


def plot_norms(norms: np.ndarray, ax: plt.Axes | None = None) -> plt.Axes:
    """Histogram of the vectors' Euclidean lengths."""
    ax = new_axes(ax, height=3.0)
    # In float64, for lengths that differ in float32's last digit alone leave no room for 40 bins.
    ax.hist(norms.astype(np.float64), bins=40, color=ACCENT)
    ax.set(xlabel="Euclidean length of the vector", ylabel="images", title=f"Vector lengths (n = {len(norms):,})")
    return ax
