"""How every command line of the project ends: with an exit status and, where it failed, a sentence on stderr."""

import signal
import sys
import threading
from collections.abc import Callable

from lib.errors import LockedError, ProjectError

DONE, FAILED, USAGE, LOCKED = 0, 1, 2, 3


def exit_status(act: Callable[[], object], failures: tuple[type[ProjectError], ...]) -> int:
    """Do something, and tell how it went.

    Parameters
    ----------
    act : callable
    failures : tuple of exception types
        Those that say that what was asked for could not be done; any other of ours is bad usage.

    Returns
    -------
    int
        0 done, 1 it could not be done, 2 bad usage, 3 another process is at it.
    """
    try:
        act()
        return DONE
    except LockedError as error:
        print(error, file=sys.stderr)
        return LOCKED
    except failures as error:
        print(f"Failed: {error}", file=sys.stderr)
        return FAILED
    except ProjectError as error:
        print(error, file=sys.stderr)
        return USAGE


def stopped_by_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
