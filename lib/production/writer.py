"""One thread that writes: rows of several requests share a commit, and each learns whether its own is durable."""

import logging
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from lib.errors import FeedbackError, LogError, first_line

WAITING = 1000  # jobs that may wait to be written
TOGETHER = 256  # jobs of one commit
Job = Callable[[Connection], Any]


class Writer:
    """Runs jobs, each a function of a connection, in order and in transactions of several.

    Parameters
    ----------
    engine : Engine
    prepare : callable
        Makes what is missing in a database.
    """

    def __init__(self, engine: Engine, prepare: Callable[[Engine], None]):
        self.problem = ""  # why the last commit failed; "" once one succeeds
        self.n_failed = 0
        self._engine, self._prepare = engine, prepare
        self._opened, self._inode = False, None
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
        ended = False
        while not ended:
            waiting = [self._jobs.get()]
            while len(waiting) < TOGETHER and not self._jobs.empty():
                waiting.append(self._jobs.get_nowait())
            ended = None in waiting
            jobs = [item for item in waiting if item is not None]
            try:
                self._open()
                done = self._commit(jobs)
            except Exception as error:  # a lock, a full disk, a lost connection: the thread must live on
                self._fail([future for _, future in jobs], error)
                continue
            self.problem = ""
            for future, result, error in done:
                if error is None:
                    future.set_result(result)
                elif isinstance(error, FeedbackError):
                    future.set_exception(error)
                else:
                    self._fail([future], error)

    def _open(self) -> None:
        """Make the tables where that has not been done, or the file has been taken away since."""
        path = self._engine.url.database if self._engine.dialect.name == "sqlite" else None
        if self._opened and path and self._inode != _inode(path):
            logging.error("The production log was removed while it was open; a new one is begun.")
            self._engine.dispose()
            self._opened = False
        if not self._opened:
            self._prepare(self._engine)
            self._opened, self._inode = True, _inode(path) if path else None

    def _commit(self, jobs: list[tuple[Job, Future]]) -> list[tuple[Future, Any, Exception | None]]:
        """Run jobs in one transaction; one that fails by its own fault harms no other."""
        done: list[tuple[Future, Any, Exception | None]] = []
        with self._engine.begin() as connection:
            for job, future in jobs:
                # A job alone needs no savepoint, which is two statements more: the transaction is its own.
                savepoint = connection.begin_nested() if len(jobs) > 1 else None
                try:
                    result = job(connection)
                    if savepoint:
                        savepoint.commit()
                except (OperationalError, InterfaceError):  # the database itself
                    raise
                except Exception as error:  # whatever it is, the other jobs are not to blame
                    (savepoint or connection.get_transaction()).rollback()
                    done.append((future, None, error))
                else:
                    done.append((future, result, None))
        return done

    def _fail(self, futures: list[Future], error: Exception) -> None:
        """Tell those who wait that their rows are not kept; without the paths that the system's messages have."""
        cause = getattr(error, "orig", None) or error
        reason = getattr(cause, "strerror", None) or first_line(cause)
        if reason != self.problem:
            logging.error("The production log cannot be written: %s", first_line(cause))
        self.problem = reason
        self.n_failed += len(futures)
        for future in futures:
            future.set_exception(LogError(f"The production log cannot be written: {reason}."))


def _inode(path: str) -> int | None:
    """What tells a file from another one at the same place; None where there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
