"""?explain= of /predict: why this answer, as a heat map and by the nearest training images."""

import numpy as np
from flask import request

from lib.admission import Work
from lib.errors import ImageError
from lib.explanation import heat_map, overlay
from lib.images import data_url, decode, png
from lib.prediction import Prediction, Predictor
from lib.web.problems import Problem

MAX_EXPLAINED = 8  # files of a request that asks for explanations
N_NEIGHBORS = 5
EXPLANATIONS = ("heatmap", "neighbors")


def read_explain() -> list[str]:
    """?explain= as names of explanations, none by default."""
    given = request.args.get("explain", "").split(",")
    names = list(dict.fromkeys(name.strip() for name in given if name.strip()))  # each once, however often it came
    if unknown := [name for name in names if name not in EXPLANATIONS]:
        raise Problem(400, f"explain must be one or both of {','.join(EXPLANATIONS)}, not {unknown[0][:40]!r}.")
    return names


def explain(predictor: Predictor, data: bytes, result: Prediction | ImageError, names: list[str], work: Work) -> dict:
    """The explanations that were asked for, of one file; none of a refused one."""
    found = {}
    for name in names if isinstance(result, Prediction) else ():
        work.check()
        if name == "heatmap":
            found[name] = shown_heat_map(predictor, data, result.label)
        else:
            found[name] = shown_neighbors(predictor, result.vector)
    return found


def shown_heat_map(predictor: Predictor, data: bytes, label: str) -> dict:
    """What speaks for a label (orange) and against it (blue), laid over what the network saw, as a PNG data URL."""
    preprocessing = predictor.encoder.preprocessing
    view = preprocessing.view(decode(data, min_side=preprocessing.decode_side))
    heat = heat_map(predictor, preprocessing.normalise(view), predictor.classes.index(label))
    image = overlay(view, heat, float(np.abs(heat.parts).max()))
    return {"label": label, "exact": heat.exact, "image": data_url(png(image), "png")}


def shown_neighbors(predictor: Predictor, vector: np.ndarray) -> list[dict]:
    """The training images nearest to a vector, with small pictures as data URLs."""
    if predictor.reference is None:
        raise Problem(422, f"Model {predictor.version.name} was trained before models kept a reference; train again.")
    known = predictor.reference
    return [
        {
            "label": known.labels[place],
            "filename": known.paths[place],
            "distance": float(distance),
            "image": data_url(known.pictures[place], "jpeg") if known.pictures[place] else None,
        }
        for place, distance in zip(*known.nearest(vector, N_NEIGHBORS), strict=True)
    ]
