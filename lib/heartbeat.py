"""Whether a worker without a port still goes round: it beats at each turn, `python -m lib.heartbeat` asks for the beat.

python -m lib.heartbeat --within 7200     # exit status 0 if the last beat is younger, 1 if not: a health check
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import time

FILE = "heartbeat"  # in the machine's folder for temporary files: one worker a container
LIMIT = 7200.0  # seconds that a turn may take: a training in it


def beat() -> None:
    """Say that the worker begins a turn."""
    _path().touch()


def age() -> float | None:
    """Seconds since the last beat; None where there was none."""
    try:
        return time() - _path().stat().st_mtime
    except FileNotFoundError:
        return None


def _path() -> Path:
    """Where the beat is left."""
    return Path(tempfile.gettempdir()) / FILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if the worker has lately begun a turn, 1 and a sentence if not."""
    parser = argparse.ArgumentParser(prog="python -m lib.heartbeat", description=__doc__.splitlines()[0])
    parser.add_argument("--within", type=float, default=LIMIT, metavar="SECONDS", help="(default: %(default)g)")
    limit, found = parser.parse_args(arguments).within, age()
    if found is not None and found <= limit:
        return 0
    print("It never beat." if found is None else f"It last beat {found:.0f} s ago.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
