"""The log of a task: predictions as they were answered, feedback to them, and the images if they are kept."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, delete, func, insert, select

from lib.errors import FeedbackError, LogError
from lib.production import schema
from lib.production.images import ImageStore
from lib.production.writer import Writer
from lib.storage import production_dir

WAIT = 1.5  # seconds that an answer waits for its row to be durable; feedback waits longer
FEEDBACK_WAIT = 10.0
DAY = 24 * 3600


@dataclass(frozen=True)
class Logged:
    """One answered image; see `schema.predictions`."""

    id: str
    version: str
    arm: str
    label: str
    probability: float
    decision: str | None
    distance: float | None
    milliseconds: float
    sha256: str
    vector: np.ndarray
    backbone: str | None = None
    client: str = ""
    shadow_of: str | None = None


@dataclass(frozen=True)
class Feedback:
    """What became of a label that somebody gave.

    Parameters
    ----------
    prediction : str
        Id of the prediction that it is about.
    label : str
    is_new : bool
        Whether the label was no class of the model that answered.
    repeated : bool
        Whether the same Idempotency-Key had brought it before.
    """

    prediction: str
    label: str
    is_new: bool
    repeated: bool


class ProductionLog:
    """The log of one task.

    Parameters
    ----------
    task : str
    url : str
        Database, see `schema.connect_to`.
    keep_images : bool
    max_days : float
        Predictions are deleted when they are older, with their feedback and images.
    max_image_bytes : int
        The oldest images are deleted when all take more room.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        task: str,
        url: str,
        *,
        keep_images: bool = True,
        max_days: float = 90.0,
        max_image_bytes: int = 10_000_000_000,
        clock: Callable[[], float] = time,
    ):
        self.task, self.keep_images = task, keep_images
        self.max_days, self.max_image_bytes = max_days, max_image_bytes
        self.images = ImageStore.of(task)
        self._url, self._clock = url, clock
        self._writer: Writer | None = None

    @property
    def url(self) -> str:
        """Of the database."""
        return self._url

    @property
    def problem(self) -> str:
        """Why the last rows could not be written; "" where they were."""
        return self._writer.problem if self._writer else ""

    @property
    def n_failed(self) -> int:
        """Rows that could not be written."""
        return self._writer.n_failed if self._writer else 0

    def open(self) -> None:
        """Start writing; raises ParameterError for a URL that is none."""
        self._writer = Writer(schema.connect_to(self._url), self._prepare)
        self._writer.start()

    def _prepare(self, engine: Engine) -> None:
        """Make what is missing: the folder of a file, and the tables; done by the writer, which tells what it meets."""
        if engine.dialect.name == "sqlite":
            production_dir(self.task).mkdir(parents=True, exist_ok=True)
        schema.prepare(engine)

    def close(self) -> None:
        """Write what waits, and stop."""
        if self._writer:
            self._writer.stop()

    def begin_image(self, sha256: str, data: bytes) -> None:
        """Begin to write an image that `record` will bring, if images are kept and the disk takes them."""
        if self.keep_images and not self.problem:
            self.images.begin(sha256, data)

    def record(self, rows: Sequence[Logged], files: Sequence[bytes] = ()) -> bool:
        """Write predictions, their images first; whether they are durable now.

        A log that cannot be written stops no prediction: it is told by `problem`.

        Parameters
        ----------
        rows : sequence of Logged
        files : sequence of bytes
            Their images, kept if `keep_images`.
        """
        pairs = list(zip(rows, files, strict=True)) if self.keep_images else [(row, b"") for row in rows]
        wait = 0 if self.problem else WAIT  # while nothing can be written, nobody waits for it
        try:
            self._submit(lambda connection: self._insert(connection, pairs)).result(wait)
        except (LogError, TimeoutError):
            return False
        return True

    def _insert(self, connection: Connection, pairs: list[tuple[Logged, bytes]]) -> None:
        """Keep images and add rows."""
        now, values = self._clock(), []
        for row, data in pairs:
            if self.keep_images:
                self.images.keep(row.sha256, data)
            vector = row.vector.astype("<f4").tobytes()
            shared = {"task": self.task, "created": now, "kept": self.keep_images, "vector": vector}
            values.append(vars(row) | shared)
        if values:
            connection.execute(insert(schema.predictions), values)

    def add_failures(self, counts: Mapping[int, int]) -> None:
        """Keep how many requests for a prediction were answered with each status of an error; raises LogError."""
        shared = {"task": self.task, "created": self._clock()}
        rows = [shared | {"status": status, "n": n} for status, n in counts.items()]
        with contextlib.suppress(TimeoutError):  # it waits in the writer, and would be counted twice if sent again
            self._submit(lambda connection: connection.execute(insert(schema.failures), rows)).result(FEEDBACK_WAIT)

    def give_feedback(
        self, label: str, classes: Sequence[str], *, prediction: str = "", sha256: str = "",
        key: str | None = None, source: str | None = None,
    ) -> Feedback:  # fmt: skip
        """Keep the right label of an answered image; durable when this returns.

        Parameters
        ----------
        label : str
        classes : sequence of str
            Of the model, to tell a new one.
        prediction, sha256 : str
            The prediction's id, or the content of its image: then its latest prediction is meant.
        key : str, optional
            The same key brings the same feedback once.
        source : str, optional
            Pseudonym of who gave it, at most 32 characters.

        Raises
        ------
        FeedbackError
            If there is no such prediction, or the key came with other feedback before.
        LogError
            If it could not be written.
        """
        about = {"prediction": prediction, "sha256": sha256}
        job = partial(self._add_feedback, label=label, classes=classes, **about, key=key, source=source)
        try:
            return self._submit(job).result(FEEDBACK_WAIT)
        except TimeoutError:
            raise LogError("The production log does not answer; the feedback may not be kept, send it again.") from None

    def _add_feedback(
        self, connection: Connection, label: str, classes: Sequence[str], prediction: str, sha256: str,
        key: str | None, source: str | None,
    ) -> Feedback:  # fmt: skip
        """Find the row that the key brought before, or else the prediction, and add a row."""
        if key is not None and (known := self._by_key(connection, key)) is not None:
            meant = known.prediction == prediction if prediction else known.sha256 == sha256
            if not meant or known.label != label:
                said = f"The key {key[:80]!r} came with other feedback before; take a new one."
                raise FeedbackError(said, "reused")
            return Feedback(known.prediction, label, known.is_new, repeated=True)
        found, is_new = self._find(connection, prediction, sha256), label not in classes
        values = {"prediction": found, "task": self.task, "created": self._clock(), "label": label, "source": source}
        connection.execute(insert(schema.feedback).values(**values, is_new=is_new, idempotency_key=key))
        return Feedback(found, label, is_new, repeated=False)

    def _by_key(self, connection: Connection, key: str) -> Any:
        """What an Idempotency-Key brought: prediction, label, is_new, and the image's sha256; None if nothing."""
        table, about = schema.feedback, schema.predictions
        query = select(table.c.prediction, table.c.label, table.c.is_new, about.c.sha256)
        query = query.join(about, about.c.id == table.c.prediction)
        return connection.execute(query.where(table.c.task == self.task, table.c.idempotency_key == key)).first()

    def _find(self, connection: Connection, prediction: str, sha256: str) -> str:
        """Id of a prediction by its id, or of the latest one of an image."""
        table = schema.predictions
        query = select(table.c.id).where(table.c.task == self.task).order_by(table.c.created.desc()).limit(1)
        query = query.where(table.c.shadow_of.is_(None))  # nobody was told a shadow's answer
        query = query.where(table.c.id == prediction) if prediction else query.where(table.c.sha256 == sha256)
        found = connection.execute(query).scalar()
        if found is None:
            what = f"prediction {prediction[:40]!r}" if prediction else "prediction of this image"
            raise FeedbackError(
                f"Task {self.task!r} has no {what}; it was never made, or is no longer kept.", "unknown"
            )
        return found

    def prune(self) -> None:
        """Delete what is too old or too large; raises LogError."""
        self._submit(self._prune).result()

    def _prune(self, connection: Connection) -> None:
        """Delete rows by age, then images that no row asks for, then the oldest that are too much."""
        table = schema.predictions
        old = (table.c.task == self.task) & (table.c.created < self._clock() - self.max_days * DAY)
        connection.execute(delete(table).where(old))
        counts = schema.failures.c
        too_old = (counts.task == self.task) & (counts.created < self._clock() - self.max_days * DAY)
        connection.execute(delete(schema.failures).where(too_old))
        wanted = set(connection.execute(select(table.c.sha256).where(table.c.task == self.task)).scalars())
        images = self.images.oldest_first()
        excess = sum(size for name, size in images if name in wanted) - self.max_image_bytes
        for name, size in images:
            if name not in wanted or excess > 0:
                excess -= size if name in wanted else 0
                self.images.remove(name)

    def counts(self) -> tuple[int, int]:
        """How many predictions and how much feedback of this task are kept; raises LogError."""

        def count(connection: Connection) -> tuple[int, int]:
            tables = (schema.predictions, schema.feedback)
            numbers = [
                connection.execute(select(func.count()).select_from(table).where(table.c.task == self.task)).scalar()
                for table in tables
            ]
            return numbers[0], numbers[1]

        return self._submit(count).result()

    def _submit(self, job: Callable[[Connection], Any]) -> Future:
        """Hand a job to the writer."""
        if self._writer is None:
            raise LogError("The production log is not open.")
        return self._writer.submit(job)


class ProductionLogs:
    """The log of each task that is asked for, opened at first use.

    Parameters
    ----------
    url : str
        One database for all tasks; "" for a SQLite file a task.
    options : dict
        Of each `ProductionLog`.
    """

    def __init__(self, url: str = "", **options: Any):
        self._url, self._options = url, options
        self._logs: dict[str, ProductionLog] = {}
        self._lock = threading.Lock()

    def get(self, task: str) -> ProductionLog:
        """The open log of a task."""
        with self._lock:
            if task not in self._logs:
                log = ProductionLog(task, self._url or schema.default_url(task), **self._options)
                log.open()
                self._logs[task] = log
            return self._logs[task]

    def opened(self) -> list[ProductionLog]:
        """Those that are open."""
        with self._lock:
            return list(self._logs.values())

    def close(self) -> None:
        """Write what waits in each of them, and stop."""
        with self._lock:
            for log in self._logs.values():
                log.close()
            self._logs.clear()

    def tend(self, stopped: threading.Event, seconds: float = 3600.0) -> None:
        """Prune every open log, now and again, until `stopped` is set."""
        while not stopped.wait(seconds):
            for log in self.opened():
                with contextlib.suppress(LogError):  # its `problem` tells
                    log.prune()
