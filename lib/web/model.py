"""The model that answers: loaded once, warmed, and shared by all threads."""

import io
import threading

from flask import Flask, current_app
from PIL import Image

from lib import registry
from lib.errors import ArtifactError
from lib.prediction import Predictor, default_task

KEY = "served_model"


class ServedModel:
    """The champion of a task; loading is tried again at each request until it succeeds.

    Parameters
    ----------
    task : str or None
        None for the only task there is.
    """

    def __init__(self, task: str | None):
        self.task = task
        self._predictor: Predictor | None = None
        self._lock = threading.Lock()

    def predictor(self) -> Predictor:
        """The predictor; raises ArtifactError where there is no usable model yet."""
        if self._predictor is None:
            with self._lock:
                if self._predictor is None:
                    self._predictor = self._load()
        return self._predictor

    def _load(self) -> Predictor:
        """Load, verify and warm the champion."""
        self.task = default_task(self.task)
        predictor = Predictor.from_version(registry.champion(self.task))
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64)).save(buffer, "PNG")
        # The second file is no image: Pillow loads its plugins to tell so, which the first client need not wait for.
        plain, _ = predictor.predict([buffer.getvalue(), b"no image"])
        if isinstance(plain, Exception):
            raise ArtifactError(f"The model cannot classify a plain image: {plain}")
        return predictor


def attach(app: Flask, task: str | None) -> ServedModel:
    """Put the served model into an app."""
    app.extensions[KEY] = ServedModel(task)
    return app.extensions[KEY]


def served_model() -> ServedModel:
    """The served model of the current app."""
    return current_app.extensions[KEY]
