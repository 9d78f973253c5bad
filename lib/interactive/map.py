"""The map of an embedding: points that show their image, label and prediction under a pointer, a finger or a key."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from markupsafe import Markup

from lib.display import figure_image, table_html
from lib.interactive.page import show
from lib.interactive.sprites import sprite
from lib.plots import MARKERS, class_styles
from lib.storage import sha256_json

TILE, COLUMNS = 40, 50  # pixels of a thumbnail, thumbnails a row of the sprite
SPRITE_BYTES = 1_900_000  # so that the whole map stays below 3 MB
GRID = 4095  # positions are whole numbers up to this


def show_map(
    ax: plt.Axes,
    points: np.ndarray,
    images: pd.DataFrame,
    classes: list[str],
    root: Path,
    caption: str,
    alt: str,
) -> None:
    """Show a map of images.

    Parameters
    ----------
    ax : Axes
        The same map as a picture, for paper and where no script runs.
    points : ndarray of shape (n, 2), float
    images : DataFrame of n rows
        Columns path, label, split, predicted and p_given: the out-of-fold answer, and its probability of the label.
    classes : list of str
    root : Path
        Folder that the paths are relative to.
    caption, alt : str
    """
    rows = images.reset_index(drop=True)
    data = {
        "xy": _on_grid(points).tolist(),
        "paths": list(rows["path"]),
        "labels": _codes(rows["label"], classes),
        "predicted": _codes(rows["predicted"], classes),
        "splits": list(rows["split"]),
        "percent": (100 * rows["p_given"]).round(1).tolist(),
        "classes": classes,
        "styles": [_style(style) for style in class_styles(len(classes))],
        "tile": TILE,
        "columns": COLUMNS,
        "grid": GRID,
    }
    table = rows[["path", "label", "predicted", "p_given", "split"]].sort_values("p_given")
    show(
        "map.html",
        name=f"map-{sha256_json(data)[:8]}",
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")),
        sprite=sprite(root, list(rows["path"]), TILE, COLUMNS, limit=SPRITE_BYTES),
        picture=Markup(figure_image(ax, alt)),
        table=Markup(table_html(table, "The images of the map, the most doubtful labels first.")),
        alt=alt,
        caption=caption,
    )


def _on_grid(points: np.ndarray) -> np.ndarray:
    """(n, 2) float -> whole numbers from 0 to GRID, one scale for both axes, y downwards as on a screen."""
    low, high = points.min(axis=0), points.max(axis=0)
    centred = (points - (low + high) / 2) / max((high - low).max(), 1e-9)
    return np.rint((centred * [1, -1] + 0.5) * GRID).astype(int)


def _codes(labels: pd.Series, classes: list[str]) -> list[int]:
    """Class codes of labels."""
    codes = {label: code for code, label in enumerate(classes)}
    return [codes[label] for label in labels]


def _style(style: dict) -> list:
    """A class's colour and the number of its shape in the script."""
    return [style["color"], MARKERS.index(style["marker"])]
