"""Requests for predictions that failed are counted in the production log, so that a report can tell when they did."""

import logging
import threading
from collections import Counter

from flask import Flask, Response, request

from lib.errors import LogError
from lib.production import ProductionLogs
from lib.serving import ServedTasks

FAILURES = "failures"  # in the app's extensions
ROUTES = ("/", "/predict", "/v2/models/<model>/infer", "/v2/models/<model>/versions/<version>/infer")
EVERY = 10.0  # seconds between two writings
MAX_COUNTED = 1000  # names and statuses between two writings


class Failures:
    """Counts answers with an error, and writes the counts to the logs of the tasks that were asked.

    Parameters
    ----------
    tasks : ServedTasks
    logs : ProductionLogs or None
        Without them nothing is kept.
    """

    def __init__(self, tasks: ServedTasks, logs: ProductionLogs | None):
        self._tasks, self._logs = tasks, logs
        self._counted: Counter[tuple[str | None, int]] = Counter()
        self._lock = threading.Lock()

    def count(self, task: str | None, status: int) -> None:
        """Count an answer; `task` is what was asked for, None for the only one."""
        with self._lock:
            if self._logs and len(self._counted) < MAX_COUNTED:  # clients choose what they ask for
                self._counted[task, status] += 1

    def write(self) -> None:
        """Write what was counted since the last time; what asked for no task there is belongs to no log."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
        names = self._tasks.names()
        by_task: dict[str, Counter[int]] = {}
        for (task, status), n in counted.items():
            asked = task or (names[0] if len(names) == 1 else "")
            if asked in names:
                by_task.setdefault(asked, Counter())[status] += n
        for task, counts in by_task.items():
            try:
                self._logs.get(task).add_failures(counts)
            except (LogError, OSError) as error:
                logging.warning("Counts of failed requests wait: %s", error)
                with self._lock:
                    self._counted.update({(task, status): n for status, n in counts.items()})

    def keep(self, stopped: threading.Event) -> None:
        """Write now and again until `stopped` is set."""
        while not stopped.wait(EVERY):
            self.write()


def count_failures(app: Flask, failures: Failures) -> None:
    """Count every request of an app for a prediction that is answered with an error."""
    app.extensions[FAILURES] = failures

    @app.after_request
    def count(response: Response) -> Response:
        is_work = request.method == "POST" and request.url_rule is not None and request.url_rule.rule in ROUTES
        if response.status_code >= 400 and is_work:
            failures.count((request.view_args or {}).get("model") or request.args.get("task"), response.status_code)
        return response
