"""Figures of search and selection."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.plots.style import ACCENT, COLORS, MUTED, new_axes


def plot_validation_curve(paths: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy over C, a line a preprocessing: out of fold with one standard error, dotted on what was trained on.

    Parameters
    ----------
    paths : DataFrame
        Columns preprocessing, C, accuracy, standard_error, train_accuracy.
    """
    ax = new_axes(ax, 8.0, 4.0)
    for color, (name, path) in zip(COLORS, paths.groupby("preprocessing", sort=False), strict=False):
        ax.plot(path["C"], path["accuracy"], marker="o", markersize=3, label=name, color=color)
        low, high = path["accuracy"] - path["standard_error"], path["accuracy"] + path["standard_error"]
        ax.fill_between(path["C"], low, high, alpha=0.08, color=color)
        ax.plot(path["C"], path["train_accuracy"], linestyle=":", linewidth=1, color=color)
    ax.set(xscale="log", xlabel="C (inverse regularisation)", ylabel="accuracy")
    ax.set_title("Out of fold (band: one standard error) and on the training images (dotted)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_mlp_grid(grid: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Out-of-fold accuracy over the MLP's penalty, a line a size and preprocessing.

    Parameters
    ----------
    grid : DataFrame
        Columns network, alpha, accuracy, standard_error, folds; those given up after fewer folds get a cross.
    """
    ax = new_axes(ax, 8.0, 4.0)
    for color, (name, line) in zip(COLORS, grid.groupby("network", sort=False), strict=False):
        done = line["folds"] == grid["folds"].max()
        kept, given_up = line[done], line[~done]
        ax.errorbar(
            kept["alpha"], kept["accuracy"], kept["standard_error"], marker="o", capsize=2, label=name, color=color
        )
        ax.scatter(given_up["alpha"], given_up["accuracy"], marker="x", s=30, color=color)
    ax.set(xscale="log", xlabel="alpha (L2 penalty)", ylabel="out-of-fold accuracy")
    ax.set_title("MLP by size and penalty (bar: one standard error; cross: given up early)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_fold_scores(scores: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """A dot a fold and model, dots of one fold joined.

    Parameters
    ----------
    scores : DataFrame
        Rows folds, columns models, values accuracy.
    """
    ax = new_axes(ax, height=3.6)
    for _, row in scores.iterrows():
        ax.plot(range(len(row)), row, color="#cccccc", linewidth=1, zorder=1)
    for column, name in enumerate(scores.columns):
        ax.scatter(np.full(len(scores), column), scores[name], color=ACCENT, zorder=2, s=28)
        ax.hlines(scores[name].mean(), column - 0.2, column + 0.2, color=COLORS[1], linewidth=2, zorder=3)
    ax.set_xticks(range(len(scores.columns)), scores.columns)
    ax.set(ylabel="accuracy of the fold", xlim=(-0.5, len(scores.columns) - 0.5))
    ax.set_title(f"All {len(scores)} folds (red: mean; a grey line joins one fold)")
    return ax


def plot_learning_curve(curve: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Accuracy over the number of training images; `curve` has columns n_train, fold, accuracy."""
    ax = new_axes(ax, height=3.6)
    grouped = curve.groupby("n_train")["accuracy"]
    mean, error = grouped.mean(), grouped.sem()
    ax.scatter(curve["n_train"], curve["accuracy"], s=10, color=MUTED, label="a fold")
    ax.errorbar(mean.index, mean, error, marker="o", capsize=3, color=ACCENT, label="mean, one standard error")
    ax.set(xlabel="training images", ylabel="accuracy on the other folds")
    ax.set_title("Would more labels help?")
    ax.legend(loc="lower right")
    return ax
