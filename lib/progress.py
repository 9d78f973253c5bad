"""How far, how fast and how long still: the bar that long work shows in a terminal, in a notebook and in a log."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

Progress = Callable[[Iterable, int, str], Iterable]
EVERY = 10.0  # seconds between two states of a bar where all that is written stays


def progress_bar(items: Iterable, total: int, description: str) -> Iterable:
    """Wrap an iterable of `total` items in a bar; a line at most twice a second.

    What is counted follows a comma in the description ("logistic regression, paths"); images where there is none.
    """
    from tqdm import tqdm  # here, for the service does without it

    what, _, unit = description.partition(", ")
    return tqdm(items, total=total, desc=what, unit=f" {unit or 'images'}", mininterval=0.5, smoothing=0.1)


def quiet(items: Iterable, total: int, description: str) -> Iterable:
    """Progress that shows nothing."""
    return items


@contextmanager
def bars_to(stream: TextIO) -> Iterator[TextIO]:
    """What bars are written to so that they can be read there: a terminal as it is, anything else line by line."""
    if stream.isatty():
        yield stream
        return
    lines = Lines(stream)
    try:
        yield lines
    finally:
        lines.end()


class Lines(io.TextIOBase):
    """Of a line that is overwritten again and again, a state now and again and the last one, each a line of its own.

    Parameters
    ----------
    stream : text stream
        A file, a pipe or the log of a container.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic):
        self._stream, self._clock = stream, clock
        self._line, self._returned = "", False
        self._due = clock() + EVERY

    def write(self, text: str) -> int:
        """Take text; what follows \\r begins the line anew."""
        for part in re.split(r"([\r\n])", text):
            if part == "\n":
                self._tell()
            elif part == "\r":
                self._returned = True
            elif part:
                if self._returned and self._line.strip() and self._clock() >= self._due:
                    self._tell()
                self._line, self._returned = part if self._returned else self._line + part, False
        return len(text)

    def flush(self) -> None:
        """Flush the stream; an unfinished line waits."""
        self._stream.flush()

    def end(self) -> None:
        """Write what is left of a line that was not finished."""
        if self._line.strip():
            self._tell()

    def _tell(self) -> None:
        """Write the line as it is now."""
        self._stream.write(f"{self._line.rstrip()}\n")
        self._line, self._returned, self._due = "", False, self._clock() + EVERY
