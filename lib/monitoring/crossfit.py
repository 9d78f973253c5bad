"""The task's images as if the champion had been trained on none of them: what the alarm is tried on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.classifiers import Spec
from lib.errors import DataError
from lib.incremental import Labelled, refit
from lib.monitoring.baseline import Baseline, Files, Views, answered
from lib.neighbours import K, kth_distances
from lib.probabilities import Probabilities
from lib.splits import folds

N_FOLDS = 5


@dataclass(frozen=True)
class Pool:
    """Unseen images with the champion's answers, and seen ones with those of a model that was not trained on them.

    Parameters
    ----------
    baseline : Baseline
    views : Views
        Of n images.
    labels : ndarray of shape (n,), int
    files : Files
        Of the first of them.
    models : list of Probabilities
        The champion, then a model for each fold.
    model_of : ndarray of shape (n,), int
        Which of these answers each image.
    """

    baseline: Baseline
    views: Views
    labels: np.ndarray
    files: Files
    models: list[Probabilities]
    model_of: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def changed(self, places: Sequence[int], vectors: np.ndarray) -> Views:
        """Views of these images where they have been changed and have other vectors now, (m, dim) float32."""
        proba = _answers(self.models, self.model_of[list(places)], vectors, len(self.baseline.predictor.classes))
        return answered(self.baseline.predictor, self.baseline.space, vectors, proba)


def make_pool(baseline: Baseline, *, seed: int = 0) -> Pool:
    """Fit the champion's pipeline without each fold of the seen images; where they are too few they are left out.

    A model of a fold knows fewer images than the champion and is a little less sure, in windows and reference alike.
    """
    predictor, seen = baseline.predictor, baseline.seen
    models, unseen = [predictor.proba], np.zeros(len(baseline.unseen), dtype=int)
    alone = Pool(baseline, baseline.unseen, baseline.unseen_labels, baseline.files, models, unseen)
    units = np.arange(len(seen.labels)).astype(str)
    n_classes = len(predictor.classes)
    counts = np.bincount(seen.labels)
    if not len(units) or counts[counts > 0].min() < 2 * N_FOLDS:
        return alone
    fold_of = np.zeros(len(units), dtype=int)
    for number, (train, held_out) in enumerate(folds(seen.labels, units, n_folds=N_FOLDS, seed=seed), start=1):
        try:
            data = Labelled(seen.vectors[train], seen.labels[train])
            model = refit(Spec.from_json(predictor.card["spec"]), data, units[train], n_folds=N_FOLDS, seed=seed)
        except DataError:
            return alone
        models.append(Probabilities(model))
        fold_of[held_out] = number
    distances = None
    if predictor.reference:  # each image is itself among the training images
        distances = kth_distances(predictor.reference.cosines(seen.vectors), K + 1)
    proba = _answers(models, fold_of, seen.vectors, n_classes)
    views = answered(predictor, baseline.space, seen.vectors, proba, distances)
    return Pool(
        baseline, joined(baseline.unseen, views), np.concatenate([baseline.unseen_labels, seen.labels]),
        baseline.files + seen.files, models, np.concatenate([unseen, fold_of]),
    )  # fmt: skip


def joined(first: Views, second: Views) -> Views:
    """The images of both."""
    names = ("points", "codes", "confidence", "decisions")
    return Views(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))


def _answers(models: list[Probabilities], model_of: np.ndarray, vectors: np.ndarray, n_classes: int) -> np.ndarray:
    """Probabilities, (n, n_classes), of each image by its own model."""
    proba = np.zeros((len(vectors), n_classes))
    for number in np.unique(model_of):
        own = model_of == number
        found = models[number](vectors[own])
        proba[own, : found.shape[1]] = found  # classes that updates have added come last, and no fold has them
    return proba
