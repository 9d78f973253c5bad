"""Windows of production: from when until when, and what was answered in them. The log is read, never locked."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from lib.errors import ParameterError
from lib.metrics import expected_accuracy, proportion
from lib.production.reading import read_answers, read_extent, read_failures, read_labels, read_starts

UNITS = {"m": 60, "h": 3600, "d": 86400}  # seconds
SAMPLE = 500  # images of a window that are compared with the reference, drawn where there are more
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Span:
    """From `start` until before `end`, seconds since 1970; one that is not over is not judged."""

    start: float
    end: float
    is_over: bool = True

    @property
    def name(self) -> str:
        """When it began, in UTC."""
        return f"{datetime.fromtimestamp(self.start, UTC):%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Window:
    """What was answered in a span.

    Parameters
    ----------
    span : Span
    facts : dict
        n (answers), failed (requests by status of their error), milliseconds (by percentile), decisions, versions,
        arms and labels (answers of each), estimated (accuracy by confidence, None without answers).
    sample : DataFrame
        `lib.production.reading.ANSWER_COLUMNS` of the images to compare: every content once, at most SAMPLE of them,
        none that the champion was trained on.
    """

    span: Span
    facts: dict[str, Any]
    sample: pd.DataFrame


def cut(
    task: str, url: str, length: str, n_windows: int, now: float, *, judged: Sequence[Span] = ()
) -> list[Span]:  # fmt: skip
    """The newest spans of a log, oldest first: those that are over, and the one that is not.

    They lie on a fixed grid, so that the next look judges the same ones and not again what it has judged. Spans of so
    many answers go on from those that have been judged, for the log forgets where it began.

    Parameters
    ----------
    task, url : str
        As `lib.production.schema.reading`.
    length : str
        A number with m, h or d for a time ("6h"), without a unit for so many answers ("500").
    n_windows : int
        Of those that are over.
    now : float
        Seconds since 1970.
    judged : sequence of Span
        Of the same length, oldest first.

    Raises
    ------
    ParameterError
        For another length, or no window.
    LogError
        If the log cannot be read.
    """
    seconds, count = read_length(length)
    if n_windows < 1:
        raise ParameterError(f"n_windows must be 1 or more, not {n_windows}.")
    extent = read_extent(task, url)
    if extent is None:
        return []
    first, newest = extent
    if count:
        spans = [span for span in judged if span.start >= first]
        starts = read_starts(task, url, count, spans[-1].end if spans else first)
        spans += [Span(start, end) for start, end in pairwise(starts)]
        spans += [Span(start, float(np.nextafter(newest, np.inf)), is_over=False) for start in starts[-1:]]
    else:
        current = now - now % seconds
        begun = max(first - first % seconds, current - n_windows * seconds)
        spans = [Span(start, start + seconds) for start in np.arange(begun, current, seconds).tolist()]
        spans.append(Span(current, current + seconds, is_over=False))
    return spans[-n_windows - 1 :]


def read_length(length: str) -> tuple[int, int]:
    """Seconds and 0, or 0 and a number of answers; raises ParameterError."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([mhd]?)", length.strip())
    if not found:
        raise ParameterError(
            f"A window is so many minutes, hours or days (30m, 6h, 1d) or so many answers (500), not {length!r}."
        )
    number, unit = int(found[1]), found[2]
    return (number * UNITS[unit], 0) if unit else (0, number)


def read_window(
    task: str, url: str, span: Span, backbone: str, trained: Collection[str], *, seed: int = 0, most: int = SAMPLE
) -> Window:
    """What was answered in a span.

    Parameters
    ----------
    task, url : str
    span : Span
    backbone : str
        Fingerprint of the network whose vectors can be compared.
    trained : collection of str
        SHA-256 of images that the champion was trained on.
    seed : int
        Draws the sample.
    most : int
        Images of the sample.
    """
    rows = read_answers(task, url, span.start, span.end)
    milliseconds = rows["milliseconds"].to_numpy(dtype=float)
    fit = rows[(rows["backbone"] == backbone) & ~rows["sha256"].isin(list(trained))].drop_duplicates("sha256")
    drawn = fit.sample(min(most, len(fit)), random_state=seed) if len(fit) else fit
    facts = {
        "n": len(rows),
        "n_images": len(fit),
        "failed": read_failures(task, url, span.start, span.end),
        "milliseconds": {str(p): float(np.percentile(milliseconds, p)) if len(rows) else None for p in PERCENTILES},
        **{f"{name}s": _counts(rows[name]) for name in ("decision", "version", "arm", "label")},
        "estimated": expected_accuracy(rows["probability"].to_numpy(dtype=float)).to_json() if len(rows) else None,
    }
    return Window(span, facts, drawn.reset_index(drop=True))


def _counts(column: pd.Series) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return {str(name): int(n) for name, n in column.dropna().value_counts().items()}


def labelled_accuracy(task: str, url: str, spans: Sequence[Span]) -> pd.DataFrame:
    """Accuracy of the labelled answers of each span, and what confidence made one expect of the very same answers.

    Returns
    -------
    DataFrame
        A row a span: window, n, accuracy, low, high (Wilson), estimated.
    """
    given = _latest(read_labels(task, url))
    rows = []
    for span in spans:
        own = given[(given["answered_at"] >= span.start) & (given["answered_at"] < span.end)]
        right = proportion(int((own["answered"] == own["label"]).sum()), len(own))
        expected = expected_accuracy(own["probability"].to_numpy(dtype=float))
        rows.append((span.name, len(own), right.value, right.low, right.high, expected.value))
    return pd.DataFrame(rows, columns=["window", "n", "accuracy", "low", "high", "estimated"])


def labelled_by_class(task: str, url: str, spans: Sequence[Span]) -> pd.DataFrame:
    """Recall of each label that people gave to answers of these spans: label, n, recall, low, high."""
    given = _latest(read_labels(task, url))
    if spans:
        given = given[(given["answered_at"] >= spans[0].start) & (given["answered_at"] < spans[-1].end)]
    rows = []
    for label, own in given.groupby("label"):
        right = proportion(int((own["answered"] == label).sum()), len(own))
        rows.append((label, len(own), right.value, right.low, right.high))
    return pd.DataFrame(rows, columns=["label", "n", "recall", "low", "high"])


def _latest(given: pd.DataFrame) -> pd.DataFrame:
    """The latest label of each answer."""
    return given.drop_duplicates("prediction", keep="last")
