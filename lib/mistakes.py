"""Images that a model gets wrong: which, why, and what they look like to it."""

import numpy as np
import pandas as pd
from PIL import Image

from lib.evaluation import PREDICTION_COLUMNS
from lib.explanation import heat_map, overlay
from lib.exploration import nearest_neighbours
from lib.images import decode, thumbnail
from lib.prediction import Predictor
from lib.tasks import TaskEmbeddings

MISTAKE_COLUMNS = [*PREDICTION_COLUMNS, "fault"]
SIDE = 112  # pixels of the pictures beside each other


def mistakes(predictions: pd.DataFrame, faults: pd.DataFrame) -> pd.DataFrame:
    """The wrong rows of a predictions table, the most confident first: MISTAKE_COLUMNS.

    `fault` says what is odd about the image itself, from `lib.quality.image_faults`; "" where nothing is.
    """
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").reset_index(drop=True)
    names = faults.groupby("image")["fault"].agg(", ".join).to_dict()
    return wrong.assign(fault=[names.get(path, "") for path in wrong["path"]])[MISTAKE_COLUMNS]


def told_faults(predictions: pd.DataFrame, faults: pd.DataFrame) -> str:
    """How many test images are faulty themselves, and how many of these are misclassified, in words."""
    faulty = predictions[predictions["path"].isin(faults["image"])]
    if not len(faulty):
        return "No test image is blank, dark, bright, blurred or of an odd shape or size."
    kinds = ", ".join(f"{n} {fault}" for fault, n in faults["fault"].value_counts().items())
    wrong = int((faulty["label"] != faulty["predicted"]).sum())
    return f"{len(faulty)} test images are faulty themselves ({kinds}); {wrong} of them are misclassified."


def explained_mistakes(
    predictor: Predictor, test: TaskEmbeddings, train: TaskEmbeddings, mistakes: pd.DataFrame, n_nearest: int = 3
) -> list[list[tuple[Image.Image, str]]]:
    """Pictures of each mistake: as the network saw it, what spoke for the answer and for the label, nearest trained on.

    Parameters
    ----------
    predictor : Predictor
    test, train : TaskEmbeddings
    mistakes : DataFrame
        From `lib.evaluation.mistakes`.
    n_nearest : int
        Training images shown.

    Returns
    -------
    list of rows of (picture, text)
    """
    place = {path: row for row, path in enumerate(test.manifest["path"])}
    codes = {label: code for code, label in enumerate(predictor.classes)}
    preprocessing = predictor.encoder.preprocessing
    shown = []
    for row in mistakes.itertuples():
        image = decode((test.root / row.path).read_bytes(), min_side=preprocessing.decode_side)
        view, vector = preprocessing.view(image), test.vectors[[place[row.path]]]
        heats = [heat_map(predictor, preprocessing.normalise(view), codes[name]) for name in (row.predicted, row.label)]
        strongest = max(float(np.abs(heat.parts).max()) for heat in heats)
        pictures = [view, *(overlay(view, heat, strongest) for heat in heats)]
        texts = [f"{row.label}, answered {row.predicted} ({row.probability:.2f})", f"for {row.predicted}",
                 f"for {row.label}"]  # fmt: skip
        nearest = train.manifest.iloc[nearest_neighbours(vector, train.vectors, n_nearest)[0]]
        pictures += [thumbnail((train.root / path).read_bytes(), SIDE) for path in nearest["path"]]
        texts += [f"trained on: {label}" for label in nearest["label"]]
        shown.append([(picture.resize(_fit(picture)), text) for picture, text in zip(pictures, texts, strict=True)])
    return shown


def _fit(picture: Image.Image) -> tuple[int, int]:
    """Size of a picture within SIDE x SIDE pixels; small ones are not made larger."""
    factor = min(1.0, SIDE / max(picture.size))
    return (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
