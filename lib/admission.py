"""How much work is taken on at once, how long it may take, and how it ends when the process must.

Work beyond the bound is refused at once, so that what is accepted keeps its time. Accepted work waits for one of a
few slots, as many as there are cores, and gives up when its deadline has passed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic

from lib.errors import DeadlineError, OverloadedError

CALM = 0.5  # seconds without a second piece of work after which there is one client


class Work:
    """One accepted piece of work and its deadline."""

    def __init__(self, admission: "Admission", until: float):
        self._admission, self._until = admission, until
        self._slots, self._seconds, self._clock = admission.slots, admission.deadline, admission.clock

    @property
    def alone(self) -> bool:
        """Whether there is no other work, nor was a moment ago, so that this may have every core."""
        return self._admission.is_calm()

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
        self.n_expected = 0  # on their way to a thread, and not accepted yet
        self.draining = False
        self.clock = clock
        self.slots = threading.Semaphore(n_slots)
        self.loop: int | None = None  # ident of a thread that never works, for all clients wait for it
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._crowded = -inf  # when there was last more than one piece of work

    @contextlib.contextmanager
    def accepted(self) -> Iterator[Work]:
        """Accept a piece of work for the time of the block.

        Raises
        ------
        OverloadedError
            At once, if there is too much already, or the process is about to end.
        """
        with self._lock:
            n_taken = self.n_inflight if self._come() else self._n_taken
            if self.draining or n_taken >= self.max_inflight or self.in_loop:
                raise self._refuse()
            self.n_inflight += 1
            if self.n_inflight > 1:
                self._crowded = self.clock()
        try:
            yield Work(self, self.clock() + self.deadline)
        finally:
            with self._lock:
                if self.n_inflight > 1:
                    self._crowded = self.clock()
                self.n_inflight -= 1

    def expect(self) -> None:
        """Keep a place for a piece of work that a thread will ask `accepted` for."""
        with self._lock:
            self.n_expected += 1

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """In this thread comes what was expected; if it ends without having been accepted, its place is free again."""
        self._thread.expected = True
        try:
            yield
        finally:
            with self._lock:
                self._come()

    def _come(self) -> bool:
        """Under the lock, give up the place that was kept for this thread's work; whether one was."""
        was_expected = getattr(self._thread, "expected", False)
        self._thread.expected = False
        self.n_expected -= was_expected
        return was_expected

    def refuse(self) -> OverloadedError:
        """Count a piece of work that is sent away, and say why."""
        with self._lock:
            return self._refuse()

    def _refuse(self) -> OverloadedError:
        """`refuse` under the lock."""
        if self.draining:
            return OverloadedError("The service is shutting down; try again in a moment.")
        self.n_refused += 1
        return OverloadedError(
            f"The service is at work on {self._n_taken} requests and takes on no more; try again in a moment."
        )

    @property
    def in_loop(self) -> bool:
        """Whether the thread that asks is the one that never works."""
        return threading.get_ident() == self.loop

    @property
    def is_full(self) -> bool:
        """Whether nothing more is accepted now."""
        return self.draining or self._n_taken >= self.max_inflight

    @property
    def _n_taken(self) -> int:
        """Places that are taken."""
        return self.n_inflight + self.n_expected

    def is_calm(self) -> bool:
        """Whether at most one piece of work is accepted, and was for the last CALM seconds."""
        return self.n_inflight < 2 and self.clock() > self._crowded + CALM

    def drain(self) -> None:
        """Accept nothing more; what was accepted is finished. Takes no lock: a signal may come to who holds it."""
        self.draining = True
