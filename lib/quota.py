"""How often a client may ask: so many times a minute, in one go or spread, and then as fast as that rate."""

import ipaddress
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from time import monotonic

SWEEP = 1024  # clients kept before those that have their whole quota again are forgotten


@dataclass(frozen=True)
class Allowance:
    """What a client has.

    Parameters
    ----------
    allowed : bool
    remaining : int
        Requests that it may send at once.
    wait : float, seconds
        Until its next request is allowed; 0 where it is now.
    """

    allowed: bool
    remaining: int
    wait: float


class Quota:
    """A quota for each client, by the generic cell rate algorithm (ITU-T I.371).

    Parameters
    ----------
    n : int
        Requests within `period`.
    period : float, seconds
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, n: int, period: float = 60.0, clock: Callable[[], float] = monotonic):
        self.n, self.period = n, period
        self._clock, self._interval = clock, period / n
        self._whole_again: dict[str, float] = {}  # client -> when it will have its whole quota again
        self._sweep_at = SWEEP
        self._lock = threading.Lock()

    def take(self, client: str) -> Allowance:
        """Take one request of a client's quota, if there is one."""
        with self._lock:
            now = self._clock()
            whole_again = max(self._whole_again.get(client, now), now) + self._interval
            wait = whole_again - now - self.period
            if wait > 1e-9:
                return Allowance(False, 0, wait)
            self._whole_again[client] = whole_again
            self._sweep(now)
            remaining = floor(-wait / self._interval + 1e-6)
            return Allowance(True, remaining, 0.0 if remaining else self._interval + wait)

    def _sweep(self, now: float) -> None:
        """Forget clients that have their whole quota again, whenever twice as many are kept as after the last time."""
        if len(self._whole_again) > self._sweep_at:
            self._whole_again = {client: time for client, time in self._whole_again.items() if time > now}
            self._sweep_at = max(SWEEP, 2 * len(self._whole_again))


def client_of(address: str | None) -> str:
    """Whom an address stands for: itself, or in IPv6 its network of 64 bits, which one client has to itself."""
    try:
        known = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return ""
    if known.version == 4:
        return str(known)
    return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))
