"""Figures of a model on images it has not seen."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots.style import ACCENT, COLORS, MUTED, SEQUENTIAL, matrix_size, new_axes, plain


def plot_confusion(
    counts: np.ndarray,
    classes: list[str],
    ax: plt.Axes | None = None,
    *,
    sides: tuple[str, str] = ("true", "predicted"),
) -> plt.Axes:
    """Confusion matrix with counts in its cells, coloured by share of the row; `sides` names rows and columns."""
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
    ax.set(xlabel=sides[1], ylabel=sides[0], title=f"{sides[0]} and {sides[1]} (n = {counts.sum():,})".capitalize())
    ax.figure.colorbar(image, ax=ax, label=f"share of the row ({sides[0]})", shrink=0.8)
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


def plot_precision_recall(curves: dict[str, tuple], shown: int = 10, ax: plt.Axes | None = None) -> plt.Axes:
    """Precision over recall, a line a class, the `shown` worst in colour; `curves` from `metrics.precision_recall`."""
    ax = new_axes(ax, 7.5, 4.6)
    for color, (label, (recall, precision, average)) in zip(COLORS, list(curves.items())[:shown], strict=False):
        ax.plot(recall, precision, color=color, label=f"{plain(label)} ({average:.2f})", zorder=3)
    for recall, precision, _ in list(curves.values())[shown:]:
        ax.plot(recall, precision, color=MUTED, alpha=0.4, linewidth=0.8)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_title(f"One class against the rest ({len(curves)} classes)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="average precision, worst first")
    return ax


def plot_risk_coverage(table: pd.DataFrame, threshold: float, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy of the answers over the share that is answered, the share at a threshold marked.

    `table` from `selective.risk_coverage`.
    """
    ax = new_axes(ax, height=3.6)
    ax.fill_between(100 * table["coverage"], table["low"], table["high"], color=ACCENT, alpha=0.15, linewidth=0)
    ax.plot(100 * table["coverage"], table["accuracy"], color=ACCENT)
    answered = table[table["threshold"] >= threshold]
    if len(answered):
        last = answered.iloc[-1]
        ax.plot(100 * last["coverage"], last["accuracy"], "o", color=COLORS[1], zorder=3)
        text = f"threshold {threshold:.2f}"
        ax.annotate(text, (100 * last["coverage"], last["accuracy"]), xytext=(6, 8), textcoords="offset points")
    ax.set(
        xlabel="images answered (%)",
        ylabel="accuracy of the answers",
        xlim=(0, 101),
        ylim=(max(0, table["accuracy"].min() - 0.15), 1.02),
    )
    ax.set_title(f"What silence buys (n = {table['n'].iloc[-1]:,}; band: 95 % interval)")
    return ax


def plot_set_sizes(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Images by the size of their conformal set, split by whether it holds the truth; from `evaluation.set_sizes`."""
    ax = new_axes(ax, height=3.0)
    held = table["n"] * table["coverage"]
    ax.bar(table["size"], held, color=MUTED, label="holds the true class")
    ax.bar(table["size"], table["n"] - held, bottom=held, color=COLORS[1], label="does not")
    ax.set_xticks(table["size"])
    ax.grid(visible=False, axis="x")
    ax.set(xlabel="classes in the set", ylabel="images", title=f"Conformal sets (n = {table['n'].sum():,})")
    ax.legend()
    return ax


def plot_corruptions(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy over severity, a line a corruption, its levels written; from `robustness.corruption_curves`."""
    ax = new_axes(ax, 7.5, 4.0)
    for number, (name, rows) in enumerate(table.groupby("corruption")):
        place = rows["severity"] + 0.05 * number
        errors = np.clip([rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]], 0, None)
        levels = ", ".join(f"{level:g}" for level in rows["level"][1:])
        label = f"{name}: {levels} {rows['unit'].iloc[0]}"
        ax.errorbar(place, rows["accuracy"], errors, marker="o", capsize=2, color=COLORS[number], label=label)
    ax.set_xticks(range(4), ["as they are", "mild", "strong", "severe"])
    ax.set(ylabel="accuracy", ylim=(0, 1.02), title=f"Damaged images (n = {table['n'].iloc[0]:,}; bars: 95 % interval)")
    ax.legend(loc="lower left")
    return ax


def plot_slices(table: pd.DataFrame, overall: float, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy and interval of each slice, the accuracy of all as a line; `table` from `evaluation.slices`."""
    ax = new_axes(ax, height=max(2.2, 0.28 * len(table) + 1.2))
    places = np.arange(len(table))
    ax.axvline(overall, color="#bbbbbb", linewidth=1)
    ax.hlines(places, table["low"], table["high"], color=ACCENT, linewidth=2, alpha=0.5)
    ax.plot(table["accuracy"], places, "o", color=ACCENT)
    names = [f"{row.slice} {row.range} (n = {row.n})" for row in table.itertuples()]
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set(xlabel="accuracy (line: 95 % interval)", xlim=(0, 1.02), title="Where it is weak")
    return ax
