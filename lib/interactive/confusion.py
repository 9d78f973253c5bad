"""A confusion matrix whose cells open their images; by the browser's own popovers, without a script."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from lib.display import figure_image
from lib.interactive.page import show
from lib.interactive.sprites import sprite
from lib.metrics import confusion_counts
from lib.plots import plot_confusion, share_color
from lib.storage import sha256_json

TILE, COLUMNS = 56, 30  # pixels of a thumbnail, thumbnails a row of the sprite
CELL_IMAGES = 12  # a cell shows so many, the most confident answers first
LARGEST = 25  # classes whose matrix can be pressed; beyond, it is a picture and the most frequent confusions are listed
LISTED = 40


@dataclass(frozen=True)
class Cell:
    """What the template shows of one pair of label and answer; images are path, probability, left, top in pixels."""

    number: int
    label: str
    predicted: str
    n: int
    ground: str
    ink: str
    images: list[dict]

    @property
    def title(self) -> str:
        """The cell in words."""
        words = f"{self.label}, answered " + (self.predicted if self.predicted != self.label else "right")
        return words + (f" ({len(self.images)} of {self.n} images)" if self.n > len(self.images) else "")


def show_confusion(images: pd.DataFrame, classes: list[str], root: Path, caption: str) -> None:
    """Show which classes were taken for which, and the images behind each number.

    Parameters
    ----------
    images : DataFrame
        Columns path, label, predicted and probability (of the answer), one row an image.
    classes : list of str
    root : Path
        Folder that the paths are relative to.
    caption : str
    """
    whole = len(classes) <= LARGEST
    groups = list(images.sort_values("probability", ascending=False).groupby(["label", "predicted"]))
    if not whole:
        wrong = [(pair, group) for pair, group in groups if pair[0] != pair[1]]
        groups = sorted(wrong, key=lambda item: -len(item[1]))[:LISTED]
    totals = images["label"].value_counts()
    cells, paths = [], []
    for number, ((label, predicted), group) in enumerate(groups):
        ground, ink = share_color(len(group) / totals[label])
        tiles = [_tile(row, len(paths) + place) for place, row in enumerate(group.head(CELL_IMAGES).itertuples())]
        paths += [tile["path"] for tile in tiles]
        cells.append(Cell(number, label, predicted, len(group), ground, ink, tiles))
    place = {(cell.label, cell.predicted): cell for cell in cells}
    rows = [(label, [place.get((label, other)) for other in classes], totals.get(label, 0)) for label in classes]
    picture = "" if whole else _picture(images, classes)
    show(
        "confusion.html",
        name=f"confusion-{sha256_json([paths, classes])[:8]}",
        classes=classes,
        matrix=rows if whole else [],
        cells=cells,
        picture=Markup(picture),
        sprite=sprite(root, paths, TILE, COLUMNS),
        sheet_width=TILE * COLUMNS,
        sheet_height=TILE * -(-len(paths) // COLUMNS),
        caption=caption,
    )


def _picture(images: pd.DataFrame, classes: list[str]) -> str:
    """The whole matrix as a drawing."""
    true, predicted = (images[column].map(classes.index).to_numpy() for column in ("label", "predicted"))
    counts = confusion_counts(true, predicted, len(classes))
    return figure_image(plot_confusion(counts, classes), f"Confusion matrix of {len(classes)} classes.")


def _tile(row: tuple, number: int) -> dict:
    """An image and where it lies in the sprite."""
    left, top = TILE * (number % COLUMNS), TILE * (number // COLUMNS)
    return {"path": row.path, "probability": row.probability, "left": left, "top": top}
