"""Bytes -> prediction: the only inference path there is, for notebooks, tests and the service."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib import registry
from lib.conformal import conformal_sets
from lib.decisions import Decision, Thresholds
from lib.errors import ArtifactError, ImageError
from lib.inference import Encoder, OnnxEncoder
from lib.probabilities import Probabilities
from lib.reference import Reference
from lib.storage import artifacts_dir, task_dir

BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """What is answered to one image.

    Parameters
    ----------
    labels : tuple of str
        All classes, from the most to the least probable.
    probabilities : tuple of float
        Theirs, calibrated; they sum to 1.
    vector : ndarray of shape (dim,), float32
    distance : float or None
        1 - cosine to the tenth nearest training image; None of a version without a reference.
    decision : {"accepted", "unsure", "unknown"} or None
        None of a version that has not been evaluated.
    label_set : tuple of str
        The conformal set, most probable class first; empty where `decision` is None.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    vector: np.ndarray = field(repr=False, compare=False)
    distance: float | None = None
    decision: Decision | None = None
    label_set: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """Its calibrated probability."""
        return self.probabilities[0]


@dataclass
class Predictor:
    """A version of a task's model with its backbone.

    Parameters
    ----------
    version : registry.Version
        Verified. Its classifier is `model`; `proba` gives that one's probabilities, (n, dim) -> (n, n_classes).
    encoder : Encoder
        The exported backbone that the version's vectors agree with: the one its card names.
    """

    version: registry.Version
    encoder: Encoder
    card: dict = field(init=False, repr=False)
    model: Any = field(init=False, repr=False)
    proba: Probabilities = field(init=False, repr=False)
    thresholds: Thresholds | None = field(init=False, repr=False)
    reference: Reference | None = field(init=False, repr=False)

    def __post_init__(self):
        self.card = self.version.card
        self.classes: list[str] = self.card["classes"]
        self.model = self.version.load()
        self.proba = Probabilities(self.model)
        self.thresholds = Thresholds.from_metrics(self.version.metrics)
        path = self.version.folder / registry.REFERENCE_FILE
        self.reference = Reference.read(path) if path.exists() else None
        if self.encoder.fingerprint != self.version.export:
            raise ArtifactError(
                f"Version {self.version.name} was trained on {self.version.export}, not on {self.encoder.fingerprint}."
            )

    @classmethod
    def from_version(cls, version: registry.Version, *, n_threads: int = 0) -> "Predictor":
        """Load a version and the exported backbone that its card names; raises ArtifactError."""
        return cls(version, OnnxEncoder(version.export_folder, n_threads))

    def with_threads(self, n_threads: int) -> "Predictor":
        """The same predictor with n_threads a forward pass; it shares all else."""
        other = copy(self)
        other.encoder = self.encoder.with_threads(n_threads)
        return other

    def predict(
        self,
        files: Sequence[bytes],
        *,
        check: Callable[[], None] = lambda: None,
        decoded: Callable[[int], None] = lambda place: None,
    ) -> list[Prediction | ImageError]:
        """Classify image files; a refused one has its ImageError in its place and harms no other.

        Parameters
        ----------
        files : sequence of bytes
            Whole files.
        check : callable
            Called before each file and each forward pass; what it raises ends the work.
        decoded : callable
            Called with the place of each file that is an image, as soon as that is known.

        Returns
        -------
        list of Prediction or ImageError, in the same order
        """
        pixels = []
        for place, data in enumerate(files):
            check()
            pixels.append(self.pixels(data))
            if isinstance(pixels[-1], np.ndarray):
                decoded(place)
        good = [item for item in pixels if isinstance(item, np.ndarray)]
        batches = [good[start : start + BATCH_SIZE] for start in range(0, len(good), BATCH_SIZE)]
        answers: list[Prediction] = []
        for batch in batches:
            check()
            answers += self.answers(self.encoder.encode(np.stack(batch)))
        rows = iter(answers)
        return [next(rows) if isinstance(item, np.ndarray) else item for item in pixels]

    def pixels(self, data: bytes) -> np.ndarray | ImageError:
        """Preprocessed pixels of one file, (3, crop, crop) float32, or why it is refused."""
        try:
            return self.encoder.preprocessing.pixels(data)
        except ImageError as error:
            error.__traceback__ = error.__cause__ = error.__context__ = None  # their frames hold the decoded image
            return error

    def answers(self, vectors: np.ndarray) -> list[Prediction]:
        """(n, dim) float32, from this backbone -> n answers."""
        distances = self.reference.distances(vectors).tolist() if self.reference else [None] * len(vectors)
        return [self._answer(*row) for row in zip(self.proba(vectors), vectors, distances, strict=True)]

    def _answer(self, proba: np.ndarray, vector: np.ndarray, distance: float | None) -> Prediction:
        """One image's answer, its classes ordered; equal probabilities in the order of the classes."""
        order = np.argsort(-proba, kind="stable")
        labels = tuple(self.classes[code] for code in order)
        probabilities = tuple(float(proba[code]) for code in order)
        if self.thresholds is None:
            return Prediction(labels, probabilities, vector, distance)
        members = conformal_sets(proba[None, order], self.thresholds.conformal_threshold)[0]
        decision = self.thresholds.decide(probabilities[0], distance)
        label_set = tuple(label for label, member in zip(labels, members, strict=True) if member)
        return Prediction(labels, probabilities, vector, distance, decision, label_set)


def tasks() -> list[str]:
    """Names of the tasks that have a promoted model."""
    root = artifacts_dir()
    return sorted(path.parent.name for path in root.glob(f"*/{registry.DEPLOYMENT_FILE}")) if root.is_dir() else []


def default_task(task: str | None) -> str:
    """The task asked for, or the only one there is.

    Raises
    ------
    ArtifactError
        If none was asked for and there is not exactly one.
    """
    if task:
        task_dir(task)
        return task
    found = tasks()
    if len(found) != 1:
        state = f"there are several ({', '.join(found)}); choose one with --task" if found else "there is none yet"
        raise ArtifactError(
            f"Which task to serve is not clear: {state}. ./run_pipeline.sh trains and promotes a model."
        )
    return found[0]
