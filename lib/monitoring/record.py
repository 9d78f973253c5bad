"""What a monitoring leaves for programs and for the next one: monitoring.json, and trials not to be made again."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lib.alarms import ALARM, MONITORING_FILE, OK, TOO_FEW, WARNING, read_monitoring
from lib.errors import AlarmError, ArtifactError
from lib.provenance import utc_now
from lib.storage import read_json, task_dir, write_json

TRIALS_FILE = "monitoring_trials.json"
WINDOW_FIELDS = {"start", "end", "state", "calm", "verdict"}  # of a window, that the next monitoring reads
MEANING = {
    OK: "nothing has changed",
    WARNING: "a window is suspicious, as one in twenty is by chance",
    ALARM: "what is sent is not what the model was made for",
    TOO_FEW: "there are too few images to say",
}


def write_record(task: str, facts: dict[str, Any]) -> None:
    """Write monitoring.json with the time."""
    write_json(task_dir(task) / MONITORING_FILE, {"time": utc_now(), "task": task, **facts})


def judged_windows(task: str, baseline: str, length: str) -> list[dict[str, Any]]:
    """The windows that the last monitoring judged, oldest first; none of another baseline (its fingerprint) or length.

    What has been judged is not judged again: the grid of windows is fixed, and what is over does not change.
    """
    record = read_monitoring(task)
    rows = record.get("windows", [])
    is_whole = all(isinstance(row, dict) and set(row) >= WINDOW_FIELDS for row in rows)
    same = (record.get("baseline"), record.get("length")) == (baseline, length)
    return rows if same and is_whole else []


def since(names: Sequence[str], states: Sequence[str]) -> str:
    """Name of the window with which the present state began."""
    begun = len(states) - 1
    while begun and states[begun - 1] == states[-1]:
        begun -= 1
    return names[begun]


def read_trials(task: str, key: str) -> dict[str, pd.DataFrame]:
    """Tables of trials that were made with the same key; {} where there are none."""
    try:
        found = read_json(task_dir(task) / TRIALS_FILE)
    except ArtifactError:
        return {}
    if found.get("key") != key:
        return {}
    return {name: pd.DataFrame(**table) for name, table in found["tables"].items()}


def write_trials(task: str, key: str, tables: dict[str, pd.DataFrame]) -> None:
    """Keep tables of trials."""
    plain = {
        name: {"data": list(table.itertuples(index=False, name=None)), "columns": list(table)}
        for name, table in tables.items()
    }
    write_json(task_dir(task) / TRIALS_FILE, {"key": key, "tables": plain})


def check_state(state: str, fail_on: str) -> None:
    """Raise AlarmError if a state is `fail_on` ("warning" or "alarm") or worse; "never" raises nothing."""
    if fail_on in (WARNING, ALARM) and state in (ALARM, fail_on):
        raise AlarmError(f"The state is {state}: {MEANING[state]}. The report says more; fail_on is {fail_on}.")
