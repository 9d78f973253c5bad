"""What to look at in a window: the most foreign images, unknown ones that look alike, what to label next."""

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from lib.acquisition import CANDIDATES, next_to_label
from lib.clusters import MAX_IMAGES, alike
from lib.errors import ImageError
from lib.images import thumbnail
from lib.prediction import Predictor
from lib.production import ImageStore
from lib.production.reading import read_labels, read_vectors
from lib.reference import SIDE, Reference

LABEL_COLUMNS = ["prediction", "sha256", "label", "probability", "decision"]
N_FOREIGN, N_TO_LABEL = 8, 30
Shown = tuple[Image.Image | None, str]  # a picture and a line below it
LEAST_ALIKE = 5  # as many as a new class needs


@dataclass(frozen=True)
class Group:
    """Images told as unknown that look alike: perhaps a class that the model lacks.

    Parameters
    ----------
    rows : DataFrame
        Of the window, the most typical first.
    """

    rows: pd.DataFrame

    def told(self, n_examples: int = 3) -> str:
        """How many there are, and which ids to label."""
        ids = ", ".join(self.rows["id"].head(n_examples))
        return f"{len(self.rows)} images like these; label them by their ids ({ids}, ...)."


def most_foreign(rows: pd.DataFrame, n: int = N_FOREIGN) -> pd.DataFrame:
    """The rows of a window whose kept images lie farthest from all training images, every content once."""
    kept = rows[rows["kept"].astype(bool) & rows["distance"].notna()].drop_duplicates("sha256")
    return kept.sort_values("distance", ascending=False, kind="stable").head(n)


def nearest_picture(reference: Reference, vector: np.ndarray) -> Shown:
    """The training image nearest to a vector of shape (dim,): its small picture and its label."""
    (place,), _ = reference.nearest(vector, 1)
    data = reference.pictures[place]
    return (Image.open(io.BytesIO(data)) if data else None), f"nearest: {reference.labels[place]}"


def foreign_pairs(task: str, url: str, rows: pd.DataFrame, predictor: Predictor) -> list[list[Shown]]:
    """The most foreign images of a window, each with the training image nearest to it, as pictures with a line each.

    Nothing of a version that has no reference of its training images.
    """
    if predictor.reference is None:
        return []
    foreign, store = most_foreign(rows), ImageStore.of(task)
    found = []
    for row, vector in zip(foreign.itertuples(), read_vectors(task, url, list(foreign["id"])), strict=True):
        try:
            picture = thumbnail(store.path(row.sha256).read_bytes(), SIDE)
        except (ImageError, OSError):
            continue
        text = f"{row.id[:8]}: {row.label} ({row.probability:.2f}), {row.decision}, distance {row.distance:.2f}"
        found.append([(picture, text), nearest_picture(predictor.reference, vector)])
    return found


def unknown_groups(task: str, url: str, rows: pd.DataFrame, predictor: Predictor) -> list[Group]:
    """Groups of images told as unknown, the largest first.

    Two images are alike if they are no farther from each other than most training images are from the tenth nearest.
    """
    foreign = _still_kept(task, rows[rows["decision"] == "unknown"]).head(MAX_IMAGES)
    if predictor.reference is None or len(foreign) < LEAST_ALIKE:
        return []
    bound = float(np.quantile(predictor.reference.own_distances(), 0.9))
    vectors = read_vectors(task, url, list(foreign["id"]))
    return [Group(foreign.iloc[places]) for places in alike(vectors, bound, least=LEAST_ALIKE)]


def to_label(task: str, url: str, rows: pd.DataFrame, n: int = N_TO_LABEL) -> pd.DataFrame:
    """What to label next of a window's images that are still kept and have no label yet, in order; LABEL_COLUMNS."""
    kept = _still_kept(task, rows)
    kept = kept[~kept["sha256"].isin(set(read_labels(task, url)["sha256"]))].reset_index(drop=True)
    kept = kept.nsmallest(CANDIDATES * n, "probability", keep="first").reset_index(drop=True) if len(kept) else kept
    vectors = read_vectors(task, url, list(kept["id"]))
    chosen = kept.iloc[next_to_label(vectors, kept["probability"].to_numpy(dtype=float), n)]
    return chosen.rename(columns={"id": "prediction"})[LABEL_COLUMNS].reset_index(drop=True)


def _still_kept(task: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose images have not been deleted since, every content once."""
    store, kept = ImageStore.of(task), rows[rows["kept"].astype(bool)].drop_duplicates("sha256")
    return kept[np.array([store.path(sha256).is_file() for sha256 in kept["sha256"]], dtype=bool)]
