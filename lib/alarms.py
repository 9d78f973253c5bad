"""What the last monitoring of a task said, as monitoring.json has it; for whoever acts on it without making it."""

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
    return found if isinstance(found, dict) and found.get("state") in STATES else {}


def is_alarmed(task: str) -> bool:
    """Whether the last monitoring found that what is sent has changed."""
    return read_monitoring(task).get("state") == ALARM
