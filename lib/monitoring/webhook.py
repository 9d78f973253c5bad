"""An alarm is told to a URL, as JSON by POST; off by default, tried again, and in nobody's way."""

import json
import logging
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from lib.alarms import ALARM, read_monitoring
from lib.errors import ArtifactError, ParameterError
from lib.storage import read_json, task_dir, write_json

TOLD_FILE = "monitoring_told.json"
TRIES, PAUSE, TIMEOUT = 3, 2.0, 5.0  # seconds; each pause is twice the one before
FIELDS = ("task", "state", "since", "time", "text", "causes", "window", "p_value")


def check_url(url: str) -> str:
    """The URL; raises ParameterError where it is none of http or https."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if url and (not good or any(character <= " " for character in url)):
        raise ParameterError("A webhook is an http:// or https:// URL.")  # which may hold a secret: it is not repeated
    return url


def tell(task: str, url: str, *, wait: Callable[[float], object]) -> bool:
    """Tell a URL if an alarm of a task has begun or ended since it was told last; whether nothing is left to tell.

    What could not be told is told by the next call: an alarm may come twice, and never not at all.

    Parameters
    ----------
    task : str
    url : str
    wait : callable
        Waits so many seconds between two tries.
    """
    record = read_monitoring(task)
    if not record or (record["state"] == ALARM) == was_alarmed(task):
        return True
    body = {name: record.get(name) for name in FIELDS}
    for number in range(TRIES):
        if problem := post(url, body):
            logging.warning("Task %s: the webhook did not take the state %s: %s", task, record["state"], problem)
            if number + 1 < TRIES:
                wait(PAUSE * 2**number)
        else:
            write_json(task_dir(task) / TOLD_FILE, {"alarm": record["state"] == ALARM})
            return True
    return False


def was_alarmed(task: str) -> bool:
    """Whether the last state that was told is an alarm."""
    try:
        return bool(read_json(task_dir(task) / TOLD_FILE).get("alarm"))
    except (ArtifactError, AttributeError):
        return False


def post(url: str, body: dict[str, Any]) -> str:
    """Send JSON; why that failed, without the URL, or ""."""
    data = json.dumps(body, ensure_ascii=False).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            answer.read(1000)
    except (OSError, ValueError, HTTPException) as error:  # HTTPError and URLError are OSErrors
        return str(getattr(error, "code", None) or getattr(error, "reason", None) or type(error).__name__)
    return ""


def tell_beside(task: str, url: str, stopped: threading.Event) -> threading.Thread:
    """`tell` in a thread of its own, which ends when `stopped` is set."""
    thread = threading.Thread(target=tell, args=[task, url], kwargs={"wait": stopped.wait}, daemon=True)
    thread.start()
    return thread
