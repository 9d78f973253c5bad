"""Figures of a model on images it has not seen."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots.style import ACCENT, COLORS, MUTED, SEQUENTIAL, matrix_size, new_axes, plain


def plot_confusion(counts: np.ndarray, classes: list[str], ax: plt.Axes | None = None) -> plt.Axes:
    """Confusion matrix with counts in its cells, coloured by share of the true class; rows are true classes."""
    side, font = matrix_size(len(classes), 0.5)
    ax = new_axes(ax, side + 1, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = ax.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True) if font >= 5 else ():  # smaller ones cannot be read
        shade = "black" if shares[row, column] > 0.6 else "white"
        ax.text(column, row, counts[row, column], ha="center", va="center", color=shade, fontsize=min(9, font))
    names = [plain(label) for label in classes]
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=font)
    ax.set_yticks(range(len(names)), names, fontsize=font)
    ax.grid(visible=False)
    ax.set(xlabel="predicted", ylabel="true", title=f"Confusion matrix (n = {counts.sum():,})")
    ax.figure.colorbar(image, ax=ax, label="share of the true class", shrink=0.8)
    return ax


def plot_class_f1(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """F1 a class with its interval, best on top; `table` from `metrics.per_class_table`."""
    table = table.sort_values("f1")
    ax = new_axes(ax, height=max(2.0, 0.34 * len(table) + 1.2))
    places = np.arange(len(table))
    ax.hlines(places, table["f1_low"], table["f1_high"], color=ACCENT, linewidth=2, alpha=0.5)
    ax.plot(table["f1"], places, "o", color=ACCENT)
    ax.set_yticks(places, [f"{plain(label)} (n = {n})" for label, n in zip(table["label"], table["n"], strict=True)])
    ax.set(xlabel="F1 (line: 95 % interval)", xlim=(0, 1.02), title=f"F1 a class (n = {table['n'].sum():,})")
    return ax


def plot_reliability(bins: dict[str, pd.DataFrame], ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy against confidence, a line a named table from `metrics.reliability_bins`, with Wilson intervals."""
    ax = new_axes(ax, 5.5, 4.6)
    ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    for color, (name, table) in zip(COLORS, bins.items(), strict=False):
        below, above = table["accuracy"] - table["accuracy_low"], table["accuracy_high"] - table["accuracy"]
        errors = np.clip([below, above], 0, None)
        ax.errorbar(table["confidence"], table["accuracy"], errors, marker="o", capsize=2, label=name, color=color)
    n = int(next(iter(bins.values()))["n"].sum())
    ax.set(xlabel="confidence (largest probability)", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_title(f"Is the confidence true? (n = {n:,})")
    ax.legend(loc="upper left")
    return ax


def plot_confidence(confidence: np.ndarray, right: np.ndarray, ax: plt.Axes | None = None) -> plt.Axes:
    """Histogram of the largest probability, right and wrong predictions stacked; arrays of shape (n,)."""
    ax = new_axes(ax, height=3.2)
    parts = [confidence[right], confidence[~right]]
    ax.hist(parts, bins=np.linspace(0, 1, 21), stacked=True, label=["right", "wrong"], color=[MUTED, COLORS[1]])
    ax.set(
        xlabel="confidence (largest probability)",
        ylabel="images",
        title=f"How sure, and how right (n = {len(right):,})",
    )
    ax.legend(loc="upper left")
    return ax
