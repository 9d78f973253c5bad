"""Figures of production over time, and of a window against the reference."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots.style import ACCENT, COLORS, MUTED, new_axes, plain

STATE_MARKS = {"ok": ("o", COLORS[2]), "warning": ("^", COLORS[5]), "alarm": ("X", COLORS[1])}
MOST_TICKS = 12


def plot_control_chart(table: pd.DataFrame, level: float, alarm_level: float, ax: plt.Axes | None = None) -> plt.Axes:
    """p-values of windows, small ones on top, with lines for a warning and an alarm; columns as `Survey.table`."""
    ax = new_axes(ax, 8.0, 4.2)
    heights = -np.log10(table["p_value"].to_numpy(dtype=float))
    ax.plot(heights, color=MUTED, linewidth=1)
    for state, (mark, color) in STATE_MARKS.items():
        own = (table["state"] == state).to_numpy()
        if own.any():
            ax.plot(np.flatnonzero(own), heights[own], mark, color=color, label=state, markersize=8)
    others = ~table["state"].isin(STATE_MARKS).to_numpy() & ~np.isnan(heights)
    ax.plot(np.flatnonzero(others), heights[others], "o", color=MUTED, fillstyle="none")
    for value, text in ((level, "warning"), (alarm_level, "alarm")):
        ax.axhline(-np.log10(value), color=MUTED, linewidth=1, linestyle=":")
        place = (len(table) - 0.5, -np.log10(value))
        ax.annotate(f"{text}: p = {value:.2g}", place, (0, 3), textcoords="offset points", fontsize=8, ha="right")
    _window_ticks(ax, table["window"])
    ax.set(
        ylabel="-log10 of p (up: less like the reference)", ylim=(0, None), title="Is each window like the reference?"
    )
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left")
    return ax


def plot_traffic(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Answers (bars) and requests that failed (above them) by window; columns window, n, failed."""
    ax = new_axes(ax, 8.0, 3.4)
    places = np.arange(len(table))
    ax.bar(places, table["n"], color=ACCENT, label="images answered")
    if table["failed"].any():
        ax.bar(places, table["failed"], bottom=table["n"], color=COLORS[1], hatch="//", label="requests failed")
    _window_ticks(ax, table["window"])
    ax.set(
        ylabel="by window", title=f"Traffic ({table['n'].sum():,} images, {table['failed'].sum():,} failed requests)"
    )
    ax.set_ylim(0, 1.3 * max(1, (table["n"] + table["failed"]).max()))  # room for the legend
    ax.legend(loc="upper left", ncols=2)
    return ax


def plot_accuracy_course(table: pd.DataFrame, tested: float, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy by window: by labels with Wilson intervals, and as confidence makes one expect of all answers.

    Parameters
    ----------
    table : DataFrame
        Columns window, n, accuracy, low, high, expected, expected_low, expected_high.
    tested : float
        Accuracy on the test part, drawn as a dotted line.
    """
    ax = new_axes(ax, 8.0, 4.0)
    places = np.arange(len(table))
    ax.fill_between(
        places, table["expected_low"].astype(float), table["expected_high"].astype(float), color=MUTED, alpha=0.25
    )
    ax.plot(places, table["expected"], color=MUTED, marker=".", label="expected by confidence (all answers)")
    own = (table["n"] > 0).to_numpy()
    value = table["accuracy"].to_numpy(dtype=float)[own]
    errors = np.clip([value - table["low"].to_numpy()[own], table["high"].to_numpy()[own] - value], 0, None)
    ax.errorbar(places[own], value, errors, marker="o", linestyle="", capsize=2, color=ACCENT, label="by labels (95 %)")
    ax.axhline(tested, color=MUTED, linewidth=1, linestyle=":")
    _window_ticks(ax, table["window"])
    ax.set(
        ylabel="accuracy", ylim=(0, 1.02), title=f"Accuracy by window ({table['n'].sum():,} labels; dotted: test part)"
    )
    ax.legend(loc="lower left")
    return ax


def plot_mix(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Shares of classes in the reference (hollow) and estimated in a window (full); columns as `Causes.mix`."""
    table = table.sort_values("reference").tail(40)
    ax = new_axes(ax, height=max(2.0, 0.34 * len(table) + 1.2))
    places = np.arange(len(table))
    ax.hlines(places, 100 * table["low"], 100 * table["high"], color=ACCENT, linewidth=2, alpha=0.4)
    ax.plot(100 * table["reference"], places, "o", color=MUTED, fillstyle="none", label="reference")
    ax.plot(100 * table["share"], places, "o", color=ACCENT, label="window, with its 95 % interval")
    ax.set_yticks(places, [plain(label) for label in table["label"]])
    ax.set(xlabel="share of the images, %", xlim=(0, None), title="The mix of classes")
    ax.legend(loc="lower right")
    return ax


def plot_confidence_shift(reference: np.ndarray, window: np.ndarray, ax: plt.Axes | None = None) -> plt.Axes:
    """Shares of answers by confidence in the reference (filled) and in a window (line); two arrays from 0 to 1."""
    ax = new_axes(ax)
    edges = np.linspace(0, 1, 21)
    for values, style in (
        (reference, {"color": MUTED, "alpha": 0.45}),
        (window, {"color": ACCENT, "histtype": "step"}),
    ):
        weights = np.full(len(values), 100 / max(len(values), 1))
        name = "reference" if values is reference else "window"
        ax.hist(values, edges, weights=weights, label=f"{name} (n = {len(values):,})", linewidth=2, **style)
    ax.set(
        xlabel="confidence (largest probability)", ylabel="share of the answers, %", title="How sure are the answers?"
    )
    ax.legend(loc="upper left")
    return ax


def plot_plane(reference: np.ndarray, window: np.ndarray, ax: plt.Axes | None = None) -> plt.Axes:
    """Images of the reference and of a window by the first two directions; two arrays of shape (n, 2)."""
    ax = new_axes(ax, 6.0, 5.0)
    ax.plot(*reference.T, ".", color="#bbbbbb", markersize=4, label=f"reference (n = {len(reference):,})")
    ax.plot(*window.T, "o", color=ACCENT, markersize=3, alpha=0.6, label=f"window (n = {len(window):,})")
    ax.set(xlabel="first direction", ylabel="second direction", title="Where the images lie, in the reference's plane")
    ax.legend(loc="best")
    return ax


def _window_ticks(ax: plt.Axes, names: pd.Series) -> None:
    """Name some windows below the horizontal axis."""
    shown = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_TICKS)).astype(int))
    ax.set_xticks(shown, [names.iloc[place] for place in shown], rotation=45, ha="right", fontsize=8)
    ax.set_xlim(-0.6, len(names) - 0.4)
