"""Bytes -> prediction: the only inference path there is, for notebooks, tests and the service."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib import registry
from lib.errors import ArtifactError, ImageError
from lib.inference import Encoder, OnnxEncoder
from lib.storage import artifacts_dir, task_dir

BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """One image's classes from the most to the least probable, with calibrated probabilities that sum to 1."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

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
        Verified.
    encoder : Encoder
        The exported backbone that the version's vectors agree with: the one its card names.
    """

    version: registry.Version
    encoder: Encoder
    card: dict = field(init=False, repr=False)
    model: Any = field(init=False, repr=False)

    def __post_init__(self):
        self.card = self.version.card
        self.classes: list[str] = self.card["classes"]
        self.model = self.version.load()
        if self.encoder.fingerprint != self.version.export:
            raise ArtifactError(
                f"Version {self.version.name} was trained on {self.version.export}, not on {self.encoder.fingerprint}."
            )

    @classmethod
    def from_version(cls, version: registry.Version, *, n_threads: int = 0) -> "Predictor":
        """Load a version and the exported backbone that its card names; raises ArtifactError."""
        return cls(version, OnnxEncoder(artifacts_dir() / "backbones" / version.export, n_threads))

    def proba(self, vectors: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of embedded images: (n, dim) float32 -> (n, n_classes) float64."""
        return np.asarray(self.model.predict_proba(vectors), dtype=np.float64)

    def predict(self, files: Sequence[bytes]) -> list[Prediction | ImageError]:
        """Classify image files; a refused one has its ImageError in its place and harms no other.

        Parameters
        ----------
        files : sequence of bytes
            Whole files.

        Returns
        -------
        list of Prediction or ImageError, in the same order
        """
        pixels: list[np.ndarray | ImageError] = [self._pixels(data) for data in files]
        good = [item for item in pixels if isinstance(item, np.ndarray)]
        batches = [good[start : start + BATCH_SIZE] for start in range(0, len(good), BATCH_SIZE)]
        rows = (self._prediction(row) for batch in batches for row in self.proba(self.encoder.encode(np.stack(batch))))
        return [next(rows) if isinstance(item, np.ndarray) else item for item in pixels]

    def _pixels(self, data: bytes) -> np.ndarray | ImageError:
        """Preprocessed pixels of one file, or why it is refused."""
        try:
            return self.encoder.preprocessing.pixels(data)
        except ImageError as error:
            return error

    def _prediction(self, proba: np.ndarray) -> Prediction:
        """One row of probabilities, ordered; equal ones in the order of the classes."""
        order = np.argsort(-proba, kind="stable")
        return Prediction(tuple(self.classes[code] for code in order), tuple(float(proba[code]) for code in order))


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
