"""Figures of updates and of experiments."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots.style import ACCENT, MUTED, new_axes, plain


def plot_recall_changes(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Recall of each class before (hollow) and after (full) an update; from `lib.forgetting.recall_changes`."""
    table = table.iloc[::-1]
    ax = new_axes(ax, height=max(2.0, 0.34 * len(table) + 1.2))
    places = np.arange(len(table))
    ax.hlines(places, table["after_low"], table["after_high"], color=ACCENT, linewidth=2, alpha=0.4)
    ax.hlines(places, table["before"], table["after"], color=MUTED, linewidth=1)
    ax.plot(table["before"], places, "o", color=MUTED, fillstyle="none", label="before")
    ax.plot(table["after"], places, "o", color=ACCENT, label="after, with its 95 % interval")
    ax.set_yticks(places, [f"{plain(label)} (n = {n})" for label, n in zip(table["label"], table["n"], strict=True)])
    ax.set(xlabel="recall", xlim=(-0.02, 1.02), title=f"Recall before and after (n = {table['n'].sum():,})")
    ax.legend(loc="lower left")
    return ax


def plot_running_difference(table: pd.DataFrame, effect: float, ax: plt.Axes | None = None) -> plt.Axes:
    """The difference of two arms as labels came, with its always-valid interval.

    Parameters
    ----------
    table : DataFrame
        Columns n, value, low, high; from `lib.experiments.running_difference`.
    effect : float
        The difference that is looked for, drawn as a dotted line.
    """
    ax = new_axes(ax)
    ax.fill_between(table["n"], 100 * table["low"], 100 * table["high"], color=ACCENT, alpha=0.25, linewidth=0)
    ax.plot(table["n"], 100 * table["value"], color=ACCENT)
    ax.axhline(0, color=MUTED, linewidth=1)
    ax.axhline(100 * effect, color=MUTED, linewidth=1, linestyle=":")
    ax.set(xlabel="labels", ylabel="points", title="Challenger less champion, valid at every look")
    return ax
