"""All windows of a log, each judged, and the state that follows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.alarms import TOO_FEW
from lib.drift import LEAST
from lib.monitoring.baseline import Baseline, Views
from lib.monitoring.causes import Causes
from lib.monitoring.record import MEANING, judged_windows, since
from lib.monitoring.verdicts import Standing, compare, follow, one_thread
from lib.monitoring.windows import Span, Window, cut, labelled_accuracy, read_window
from lib.production.reading import read_vectors
from lib.progress import Progress, quiet

Judged = dict[str, Any]


@dataclass(frozen=True)
class Survey:
    """Windows with what is said of them, oldest first; the last one is not over and has no state.

    Parameters
    ----------
    windows : list of Window
    verdicts : list of dict or None
        `Verdict.to_json`; None of windows with too few images.
    standings : list of Standing
        After each window that is over.
    length : str
        Of a window, as `windows.cut` reads it.
    """

    windows: list[Window]
    verdicts: list[Judged | None]
    standings: list[Standing]
    length: str

    @property
    def states(self) -> list[str]:
        """After each window that is over."""
        return [standing.state for standing in self.standings]

    @property
    def state(self) -> str:
        """The present state."""
        return self.states[-1] if self.states else TOO_FEW

    @property
    def since(self) -> str:
        """Name of the window with which it began; "" before the first window is over."""
        return since([window.span.name for window in self.windows], self.states) if self.states else ""

    @property
    def focus(self) -> Window | None:
        """The newest window that has a verdict, first of those that are over; None where there is none."""
        judged = [window for window, verdict in zip(self.windows, self.verdicts, strict=True) if verdict]
        over = [window for window in judged if window.span.is_over]
        return (over or judged or [None])[-1]

    def verdict(self, window: Window) -> Judged | None:
        """What is said of a window."""
        return self.verdicts[self.windows.index(window)]

    def table(self) -> pd.DataFrame:
        """A row a window: window, n, compared, p_value, p_embeddings, p_answers, state."""
        rows = []
        for place, (window, verdict) in enumerate(zip(self.windows, self.verdicts, strict=True)):
            state = self.states[place] if window.span.is_over else "not over yet"
            said = verdict or {}
            p_values = [said.get(name, np.nan) for name in ("p_value", "p_embeddings", "p_answers")]
            rows.append((window.span.name, window.facts["n"], said.get("n_compared", 0), *p_values, state))
        columns = ["window", "n", "compared", "p_value", "p_embeddings", "p_answers", "state"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> list[dict[str, Any]]:
        """The windows that are over, for monitoring.json."""
        return [
            {"window": window.span.name, "start": window.span.start, "end": window.span.end, **standing._asdict(),
             "verdict": verdict, **window.facts}
            for window, verdict, standing in zip(self.windows, self.verdicts, self.standings, strict=False)
        ]  # fmt: skip


def make_survey(
    task: str, url: str, baseline: Baseline, length: str, n_windows: int, now: float, *, progress: Progress = quiet
) -> Survey:  # fmt: skip
    """Judge the newest windows of a task's log.

    Parameters
    ----------
    task, url : str
        As `lib.production.schema.reading`.
    baseline : Baseline
    length : str
        See `windows.cut`.
    n_windows : int
    now : float
        Seconds since 1970.
    progress : callable

    Raises
    ------
    ParameterError, LogError
        As `windows.cut`.
    """
    earlier = judged_windows(task, baseline.fingerprint, length)
    spans = cut(task, url, length, n_windows, now, judged=[Span(row["start"], row["end"]) for row in earlier])
    known = {(row["start"], row["end"]): row["verdict"] for row in earlier}
    backbone = baseline.predictor.card["backbone"]["fingerprint"]
    windows, verdicts = [], []
    with one_thread():
        for span in progress(spans, len(spans), "judging, windows"):
            window = read_window(task, url, span, backbone, baseline.trained)
            windows.append(window)
            before = known.get((span.start, span.end)) if span.is_over else None
            verdicts.append(before or judge(task, url, baseline, window))
    p_values = [
        verdict and verdict["p_value"] for window, verdict in zip(windows, verdicts, strict=True) if window.span.is_over
    ]
    past = [Standing(row["state"], row["calm"]) for row in earlier if spans and row["end"] <= spans[0].start]
    return Survey(windows, verdicts, follow(p_values, *past[-1:]), length)


def judge(task: str, url: str, baseline: Baseline, window: Window) -> Judged | None:
    """Hold a window against the baseline; None where it has too few images."""
    if len(window.sample) < LEAST:
        return None
    views = views_of(task, url, baseline, window)
    if len(views) < LEAST:
        return None
    seed = int(window.span.start) % 2**32
    return compare(views, baseline.points, baseline.unseen, baseline.space.width, seed=seed).to_json()


def views_of(task: str, url: str, baseline: Baseline, window: Window) -> Views:
    """What the tests look at of a window's sample, without images answered as a class that updates have added."""
    views = baseline.views(read_vectors(task, url, list(window.sample["id"])))
    return views.rows(np.flatnonzero(~np.isin(views.codes, list(baseline.taught))))


def accuracy_course(task: str, url: str, survey: Survey) -> pd.DataFrame:
    """`labelled_accuracy` of the windows, with expected, expected_low and expected_high of all their answers."""
    course = labelled_accuracy(task, url, [window.span for window in survey.windows])
    facts = [window.facts for window in survey.windows]
    for column, key in (("expected", "value"), ("expected_low", "low"), ("expected_high", "high")):
        course[column] = [found["estimated"][key] if found["n"] else np.nan for found in facts]
    return course


def traffic_table(survey: Survey) -> pd.DataFrame:
    """A row a window: what the service did."""
    rows = []
    for window in survey.windows:
        facts = window.facts
        failed = facts["failed"]
        told = ", ".join(f"{status}: {n:,}" for status, n in failed.items())
        shares = [_told(facts[name]) for name in ("decisions", "versions", "arms")]
        rows.append(
            (window.span.name, facts["n"], sum(failed.values()), told, *facts["milliseconds"].values(), *shares)
        )
    columns = ["window", "n", "failed", "by status", "p50", "p95", "p99", "decisions", "versions", "arms"]
    return pd.DataFrame(rows, columns=columns)


def _told(counts: dict[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def summary(survey: Survey, baseline: Baseline, causes: Causes | None) -> dict[str, Any]:
    """What monitoring.json says besides time and task."""
    focus = survey.focus
    verdict = survey.verdict(focus) if focus else None
    return {
        "state": survey.state,
        "since": survey.since,
        "text": MEANING[survey.state],
        "causes": causes.sentences if causes else [],
        "window": focus.span.name if focus else None,
        "p_value": verdict["p_value"] if verdict else None,
        "champion": baseline.predictor.version.name,
        "reference": baseline.told,
        "baseline": baseline.fingerprint,
        "length": survey.length,
        "windows": survey.to_json(),
    }
