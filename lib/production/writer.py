"""One thread that writes: rows of several requests share a commit, and each learns whether its own is durable."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection, Engine, MetaData

from lib.errors import FeedbackError, LogError, first_line

WAITING = 1000  # jobs that may wait to be written
TOGETHER = 256  # jobs of one commit
Job = Callable[[Connection], Any]


class Writer:
    """Runs jobs, each a function of a connection, in order and in transactions of several.

    Parameters
    ----------
    engine : Engine
    metadata : MetaData
        Tables that are made where they are missing.
    """

    def __init__(self, engine: Engine, metadata: MetaData):
        self.problem = ""  # why the last commit failed; "" once one succeeds
        self.n_failed = 0
        self._engine, self._metadata = engine, metadata
        self._jobs: queue.Queue[tuple[Job, Future] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="production log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Write what waits, and end the thread."""
        self._jobs.put(None)
        self._thread.join(seconds)
        self._engine.dispose()

    def submit(self, job: Job) -> Future:
        """A future of what the job returns once it is durable; its LogError says why it is not.

        A FeedbackError that the job raises comes through as it is, and undoes what the job wrote.
        """
        future: Future = Future()
        try:
            self._jobs.put_nowait((job, future))
        except queue.Full:
            self.n_failed += 1
            future.set_exception(LogError("The production log does not keep up; what is answered now is not in it."))
        return future

    def _run(self) -> None:
        """Write until stopped."""
        ready = ended = False
        while not ended:
            waiting = [self._jobs.get()]
            while len(waiting) < TOGETHER and not self._jobs.empty():
                waiting.append(self._jobs.get_nowait())
            ended = None in waiting
            jobs = [item for item in waiting if item is not None]
            try:
                if not ready:
                    self._metadata.create_all(self._engine)
                    ready = True
                done = self._commit(jobs)
            except Exception as error:  # a full disk, a lost connection, our own mistake: the thread must live on
                self._fail(jobs, error)
                continue
            self.problem = ""
            for future, result, error in done:
                future.set_exception(error) if error else future.set_result(result)

    def _commit(self, jobs: list[tuple[Job, Future]]) -> list[tuple[Future, Any, FeedbackError | None]]:
        """Run jobs in one transaction; one that refuses its own work harms no other."""
        done: list[tuple[Future, Any, FeedbackError | None]] = []
        with self._engine.begin() as connection:
            for job, future in jobs:
                nested = connection.begin_nested()
                try:
                    done.append((future, job(connection), None))
                    nested.commit()
                except FeedbackError as error:
                    nested.rollback()
                    done.append((future, None, error))
        return done

    def _fail(self, jobs: list[tuple[Job, Future]], error: Exception) -> None:
        """Tell those who wait that their rows are not kept."""
        reason = first_line(getattr(error, "orig", None) or error)
        if reason != self.problem:
            logging.error("The production log cannot be written: %s", reason)
        self.problem = reason
        self.n_failed += len(jobs)
        for _, future in jobs:
            future.set_exception(LogError(f"The production log cannot be written: {reason}."))
