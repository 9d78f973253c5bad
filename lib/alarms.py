"""What the last monitoring of a task said, as monitoring.json has it; for whoever acts on it without making it."""

from datetime import datetime
from typing import Any

from lib.errors import ArtifactError
from lib.storage import read_json, task_dir

MONITORING_FILE = "monitoring.json"
OK, WARNING, ALARM, TOO_FEW = "ok", "warning", "alarm", "not enough data"
STATES = (OK, WARNING, ALARM, TOO_FEW)


def read_monitoring(task: str) -> dict[str, Any]:
    """The record that the last monitoring left, its `state` one of STATES; {} where there is none to be read."""
    try:
        found = read_json(task_dir(task) / MONITORING_FILE)
    except ArtifactError:
        return {}
    return found if isinstance(found, dict) and _is_record(found) else {}


def _is_record(found: dict[str, Any]) -> bool:
    """Whether all is there that is read of it."""
    kinds = {"since": str, "text": str, "causes": list, "windows": list, "p_value": int | float | None}
    if found.get("state") not in STATES or not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        return False
    try:
        datetime.fromisoformat(found["time"])
    except (KeyError, TypeError, ValueError):
        return False
    return True


def is_alarmed(task: str) -> bool:
    """Whether the last monitoring found that what is sent has changed."""
    return read_monitoring(task).get("state") == ALARM
