"""How much work is taken on at once, how long it may take, and how it ends when the process must.

Work beyond the bound is refused at once, so that what is accepted keeps its time. Accepted work waits for one of a
few slots, as many as there are cores, and gives up when its deadline has passed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from time import monotonic

from lib.errors import DeadlineError, OverloadedError


class Work:
    """One accepted piece of work and its deadline."""

    def __init__(self, slots: threading.Semaphore, until: float, seconds: float, clock: Callable[[], float]):
        self._slots, self._until, self._seconds, self._clock = slots, until, seconds, clock

    def check(self) -> None:
        """Raise DeadlineError if the deadline has passed."""
        if self._clock() >= self._until:
            raise DeadlineError(f"The answer took longer than {self._seconds:g} seconds; send fewer or smaller images.")

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it; raises DeadlineError where none is free in time."""
        if not self._slots.acquire(timeout=max(0.0, self._until - self._clock())):
            self.check()
            raise DeadlineError(f"No core was free within {self._seconds:g} seconds; try again later.")
        try:
            self.check()
            yield
        finally:
            self._slots.release()


class Admission:
    """The door that work comes in by.

    Parameters
    ----------
    max_inflight : int
        Pieces of work accepted and not finished.
    n_slots : int
        Of these, so many are worked on at a time; the others wait.
    deadline : float, seconds
        From being accepted to being finished.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, max_inflight: int, n_slots: int, deadline: float, clock: Callable[[], float] = monotonic):
        self.max_inflight, self.deadline = max_inflight, deadline
        self.n_inflight = self.n_refused = 0
        self.draining = False
        self._clock = clock
        self._slots = threading.Semaphore(n_slots)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def accepted(self) -> Iterator[Work]:
        """Accept a piece of work for the time of the block.

        Raises
        ------
        OverloadedError
            At once, if there is too much already, or the process is about to end.
        """
        with self._lock:
            if self.draining:
                raise OverloadedError("The service is shutting down; try again in a moment.")
            if self.n_inflight >= self.max_inflight:
                self.n_refused += 1
                raise OverloadedError(
                    f"The service is at work on {self.n_inflight} requests and takes on no more; try again in a moment."
                )
            self.n_inflight += 1
        try:
            yield Work(self._slots, self._clock() + self.deadline, self.deadline, self._clock)
        finally:
            with self._lock:
                self.n_inflight -= 1

    def drain(self) -> None:
        """Accept nothing more; what was accepted is finished."""
        with self._lock:
            self.draining = True
