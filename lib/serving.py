"""The models that answer: loaded, warmed, and changed for new ones while they answer.

A task's deployment.json says which version serves. A new one is loaded, verified and warmed beside the old one and
takes its place at once; one that is damaged leaves the old one serving, and says why.
"""

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import monotonic, time

from PIL import Image

from lib import registry
from lib.errors import ArtifactError, ProjectError, UnknownTaskError, first_line
from lib.experiments import CHALLENGER, CHAMPION, Experiment, running
from lib.images import png
from lib.inference import OnnxEncoder
from lib.prediction import Predictor, default_task, tasks
from lib.storage import task_dir

RETRY = 10.0  # seconds after which a version that could not be loaded is tried again
POLL = 0.5  # seconds between looks at deployment.json


@dataclass(frozen=True)
class Arm:
    """What answers a client.

    Parameters
    ----------
    name : {"champion", "challenger"}
    predictor : Predictor
    shadow : Predictor or None
        Answers besides, and nobody is told.
    """

    name: str
    predictor: Predictor
    shadow: Predictor | None = None

    def with_threads(self, n_threads: int) -> "Arm":
        """The same with n_threads a forward pass."""
        shadow = self.shadow and self.shadow.with_threads(n_threads)
        return Arm(self.name, self.predictor.with_threads(n_threads), shadow)


class ServedTask:
    """The champion of one task, and its challenger while there is an experiment.

    Parameters
    ----------
    name : str
    load : callable
        Verified version -> Predictor.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(
        self, name: str, load: Callable[[registry.Version], Predictor], clock: Callable[[], float] = monotonic
    ):
        self.name = name
        self.problem = ""  # why deployment.json cannot be followed, if so
        self.n_loads = self.n_failures = 0
        self._load, self._clock = load, clock
        self._predictor: Predictor | None = None
        self._trial: tuple[Experiment, Predictor] | None = None
        self._seen: tuple | None = ()  # nothing yet
        self._failed_at = -RETRY
        self._lock = threading.Lock()

    @property
    def answering(self) -> str:
        """Name of the version that answers; "" where none is loaded yet."""
        return self._predictor.version.name if self._predictor else ""

    @property
    def predictor(self) -> Predictor:
        """What answers now, loaded at first use; raises ArtifactError where there is no usable model yet."""
        if self._predictor is None:
            self.follow()
        if self._predictor is None:
            raise ArtifactError(self.problem)
        return self._predictor

    def arm(self, client: str) -> Arm:
        """What answers a client, by its key; raises ArtifactError where there is no usable model yet."""
        champion, trial = self.predictor, self._trial
        if trial is None or time() >= trial[0].expires:
            return Arm(CHAMPION, champion)
        experiment, challenger = trial
        if experiment.mode == "shadow":
            return Arm(CHAMPION, champion, challenger)
        name = experiment.arm(client)
        return Arm(name, challenger if name == CHALLENGER else champion)

    def follow(self) -> None:
        """Load what deployment.json names, if it has changed since; the old model answers until the new one can."""
        with self._lock:
            signature = _signature(task_dir(self.name) / registry.DEPLOYMENT_FILE)
            waits = self.problem and self._clock() < self._failed_at + RETRY
            if signature == self._seen and (not self.problem or waits):
                return
            try:
                predictor = self._load(registry.champion(self.name))
            except ProjectError as error:
                self._seen, self.problem, self._failed_at = signature, str(error), self._clock()
                self.n_failures += 1
                logging.error("Task %s: the new model is not served: %s", self.name, error)
                return
            trial, problem = self._load_trial(predictor.version.name)
            self._seen, self._predictor, self._trial, self.problem = signature, predictor, trial, problem
            self.n_loads += 1
            logging.info("Task %s: model %s serves", self.name, predictor.version.name)

    def _load_trial(self, champion: str) -> tuple[tuple[Experiment, Predictor] | None, str]:
        """The experiment with this champion and its challenger, and why there is none though there should be.

        Where the challenger cannot serve, the champion has all traffic.
        """
        try:
            experiment = running(self.name)
            if experiment is None or experiment.champion != champion:
                return None, ""
            return (experiment, self._load(registry.evaluated(self.name, experiment.challenger))), ""
        except ProjectError as error:
            problem = f"The challenger takes no part: {error}"
            self._failed_at = self._clock()
            self.n_failures += 1
            logging.error("Task %s: %s", self.name, problem)
            return None, problem


class ServedTasks:
    """Every task that this process answers for.

    Parameters
    ----------
    task : str, optional
        Only this one; by default every task that has a promoted model, now or later. ParameterError if it cannot be a
        task's name.
    """

    def __init__(self, task: str | None = None):
        self._only = task and task_dir(task).name  # refuses what cannot be a task's name
        self._served: dict[str, ServedTask] = {}
        self._lock = threading.Lock()
        self._encoders: weakref.WeakValueDictionary[Path, OnnxEncoder] = weakref.WeakValueDictionary()

    def names(self) -> list[str]:
        """Names of the tasks."""
        return [self._only] if self._only else tasks()

    def get(self, name: str | None = None) -> ServedTask:
        """The named task, or the only one there is.

        Raises
        ------
        UnknownTaskError
            If it is not among them.
        ArtifactError
            If none was named and there is not exactly one.
        """
        if name is not None and name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise UnknownTaskError(f"There is no task {name!r} here; the tasks are {known}.")
        name = name or default_task(self._only)
        with self._lock:
            if name not in self._served:
                self._served[name] = ServedTask(name, self.load)
            return self._served[name]

    def all(self) -> list[ServedTask]:
        """Each of them."""
        return [self.get(name) for name in self.names()]

    def loaded(self) -> list[ServedTask]:
        """Those that have been asked for."""
        with self._lock:
            return list(self._served.values())

    def load(self, version: registry.Version) -> Predictor:
        """Load a version and warm it; versions on the same backbone share its network.

        Raises
        ------
        ArtifactError
            If it is damaged or cannot classify a plain image.
        """
        try:
            predictor = Predictor(version, self._encoder(version.export_folder))
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"Version {version.name} has a card or metrics that lack {error}; train again."
            ) from error
        warm(predictor)
        return predictor

    def _encoder(self, folder: Path) -> OnnxEncoder:
        """The exported backbone in a folder, one for all who ask for it."""
        with self._lock:
            encoder = self._encoders.get(folder)
            if encoder is None:
                encoder = self._encoders[folder] = OnnxEncoder(folder)
            return encoder

    def watch(self, stopped: threading.Event) -> None:
        """Follow every task's deployment.json until `stopped` is set."""
        while not stopped.wait(POLL):
            for name in self.names():
                try:
                    self.get(name).follow()
                except Exception:  # nobody waits for this thread: what ends it would go unnoticed
                    logging.exception("Task %s: deployment.json could not be followed", name)


def warm(predictor: Predictor) -> None:
    """Let a predictor answer once, so that no client waits for what is made at first use; refuse one that cannot.

    Raises
    ------
    ArtifactError
        If its classes are not those of its card, or a plain image gets no probabilities.
    """
    name, n_classes = predictor.version.name, len(predictor.model.classes_)
    if n_classes != len(predictor.classes):
        raise ArtifactError(
            f"Version {name} tells {n_classes} classes apart, and its card names {len(predictor.classes)}."
        )
    try:
        # The second file is no image: Pillow loads its plugins to tell so, which the first client need not wait for.
        files = [png(Image.new("RGB", (64, 64))), b"no image"]
        predictor.with_threads(1).predict(files)  # as it works for several clients
        plain, _ = predictor.predict(files)
    except Exception as error:  # whatever a model raises on a plain image, it cannot serve
        raise ArtifactError(f"Version {name} cannot classify a plain image ({first_line(error)}).") from error
    if isinstance(plain, Exception) or not all(map(isfinite, plain.probabilities)):
        raise ArtifactError(f"Version {name} gives no probabilities to a plain image: {plain}.")


def _signature(path: Path) -> tuple | None:
    """What changes whenever a file is replaced; None where it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
