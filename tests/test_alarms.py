import json

import pytest

from lib.alarms import ALARM, MONITORING_FILE, is_alarmed, read_monitoring
from lib.storage import task_dir, write_json, write_text

RECORD = {
    "state": ALARM,
    "since": "2026-11-26",
    "time": "2026-11-26T12:00:00Z",
    "text": "",
    "causes": [],
    "windows": [],
}


def test_an_alarm_is_read():
    assert read_monitoring("cats") == {}
    assert not is_alarmed("cats")
    write_json(task_dir("cats") / MONITORING_FILE, RECORD)
    assert is_alarmed("cats")
    assert read_monitoring("cats")["since"] == "2026-11-26"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"state": "fine"}',
        json.dumps(RECORD | {"state": 3}),
        json.dumps(RECORD | {"time": "now"}),
        json.dumps(RECORD | {"p_value": "small"}),
    ],
)
def test_what_is_no_record_is_no_alarm(text):
    write_text(task_dir("cats") / MONITORING_FILE, text)
    assert read_monitoring("cats") == {}
    assert not is_alarmed("cats")
