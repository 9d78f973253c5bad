"""A line a record, whatever it says."""

import json
import logging
import subprocess
import sys

from lib.log_lines import JsonFormatter
from lib.storage import PROJECT_ROOT


def test_an_exception_is_part_of_its_line():
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "it %s", ("failed",), sys.exc_info())
    entry = json.loads(JsonFormatter().format(record))
    assert entry["message"] == "it failed"
    assert "ValueError: broken" in entry["exception"]


def test_lines_go_to_stderr_as_json_or_as_text():
    code = (
        "import logging, sys; from lib.log_lines import set_up_logging; set_up_logging(as_json=sys.argv[1] == 'json')"
    )
    for form, told in (("json", '"message": "a\\nb"'), ("text", " INFO a\nb")):
        program = [sys.executable, "-c", f"{code}; logging.info('a\\nb')", form]
        result = subprocess.run(program, cwd=PROJECT_ROOT, capture_output=True, text=True)
        assert told in result.stderr
        assert result.stdout == ""
