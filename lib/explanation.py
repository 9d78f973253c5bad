"""Why this class: the parts of an image that speak for an answer, exactly where the model allows it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from lib.classifiers import RootNormalizer
from lib.prediction import BATCH_SIZE, Predictor

PATCHES = 7  # occluded squares a side
FOR, AGAINST = (204, 85, 0), (34, 51, 136)  # colours of what speaks for a class and against it
OPACITY = 0.7  # of the strongest part


@dataclass(frozen=True)
class HeatMap:
    """What each part of an image adds to a class.

    Parameters
    ----------
    parts : ndarray of shape (rows, columns), float64
        Positive where the part speaks for the class.
    rest : float
        What belongs to no part; `parts.sum() + rest` is `score`.
    score : float
        The class's logit before calibration; of an approximation, its log-odds.
    exact : bool
        Whether the parts add up by the model's own arithmetic; else they are measured by covering each in turn.
    """

    parts: np.ndarray
    rest: float
    score: float
    exact: bool


def heat_map(predictor: Predictor, pixels: np.ndarray, code: int) -> HeatMap:
    """Explain a class of one image.

    Exact for logistic regression on a backbone that ends in global average pooling: every step from the feature map
    to the logit is affine but the square root of a RootNormalizer. That one's output is dealt out to the parts in the
    proportion of their features, which is integrated gradients (Sundararajan et al. 2017) of the root along the
    straight way from zero, with the vector's length held. Else by occlusion (Zeiler and Fergus 2014), an
    approximation.

    Parameters
    ----------
    predictor : Predictor
    pixels : ndarray of shape (3, crop, crop), float32
        Preprocessed.
    code : int
        The class.
    """
    if _is_additive(predictor):
        pipeline = predictor.model.calibrated_classifiers_[0].estimator
        return _exact(pipeline, predictor.encoder.feature_map(pixels[None])[0].astype(np.float64), code)
    return _occlusion(predictor, pixels, code)


def method(predictor: Predictor) -> str:
    """In words, how `heat_map` explains this predictor's answers."""
    return "exact, the parts add up to the logit" if _is_additive(predictor) else "approximate, by covering squares"


def _is_additive(predictor: Predictor) -> bool:
    """Whether logits are sums over the positions of a feature map."""
    pipeline = predictor.model.calibrated_classifiers_[0].estimator
    return isinstance(pipeline[-1], LogisticRegression) and predictor.encoder.card["has_map"]


def _exact(pipeline: Pipeline, features: np.ndarray, code: int) -> HeatMap:
    """Deal a logit out to the positions of a feature map of shape (dim, rows, columns)."""
    vector = features.mean(axis=(1, 2))
    weights, constant = _affine(pipeline, code)
    given = weights * vector
    if isinstance(pipeline[0], RootNormalizer):
        given = weights * pipeline[0].transform(vector[None])[0]
    share = np.divide(given, vector, out=np.zeros_like(vector), where=vector != 0) / features[0].size
    parts = np.tensordot(share, features, axes=(0, 0))
    return HeatMap(parts, constant, float(parts.sum() + constant), exact=True)


def _affine(pipeline: Pipeline, code: int) -> tuple[np.ndarray, float]:
    """A class's logit as weights (dim,) and a constant, on what follows a RootNormalizer if there is one."""
    steps = dict(pipeline.steps)
    classifier = steps["classifier"]
    if len(classifier.classes_) == 2:  # one logit tells two classes apart
        sign = 1 if code == 1 else -1
        weights, constant = sign * classifier.coef_[0], sign * classifier.intercept_[0]
    else:
        weights, constant = classifier.coef_[code], classifier.intercept_[code]
    weights = weights.astype(np.float64)
    if "pca" in steps:
        constant -= weights @ (steps["pca"].components_ @ steps["pca"].mean_)
        weights = weights @ steps["pca"].components_
    weights = weights / steps["scaler"].scale_
    return weights, float(constant - weights @ steps["scaler"].mean_)


def _occlusion(predictor: Predictor, pixels: np.ndarray, code: int) -> HeatMap:
    """What a class's log-odds lose when a square of the image is covered with the mean colour."""
    edges = np.linspace(0, pixels.shape[1], PATCHES + 1).astype(int)
    covered = [pixels]
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            image = pixels.copy()
            image[:, top:bottom, left:right] = 0
            covered.append(image)
    batches = [np.stack(covered[start : start + BATCH_SIZE]) for start in range(0, len(covered), BATCH_SIZE)]
    proba = np.concatenate([predictor.proba(predictor.encoder.encode(batch)) for batch in batches])[:, code]
    odds = np.log(np.clip(proba, 1e-12, 1)) - np.log(np.clip(1 - proba, 1e-12, 1))
    parts = (odds[0] - odds[1:]).reshape(PATCHES, PATCHES)
    return HeatMap(parts, float(odds[0] - parts.sum()), float(odds[0]), exact=False)


def overlay(view: Image.Image, heat: HeatMap, strongest: float) -> Image.Image:
    """A heat map laid over what the network saw: orange speaks for the class, blue against it.

    Parameters
    ----------
    view : PIL.Image.Image, RGB
    heat : HeatMap
    strongest : float
        The part that gets the full colour, so that several maps can share one scale.
    """
    scaled = (np.clip(heat.parts / max(strongest, 1e-12), -1, 1) * 127.5 + 127.5).astype(np.uint8)
    large = np.asarray(Image.fromarray(scaled).resize(view.size, Image.Resampling.BICUBIC), dtype=np.float32)
    strength = ((large - 127.5) / 127.5)[..., None]
    colours = np.where(strength > 0, np.float32(FOR), np.float32(AGAINST))
    alpha = OPACITY * np.abs(strength)
    mixed = (1 - alpha) * np.asarray(view, dtype=np.float32) + alpha * colours
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
