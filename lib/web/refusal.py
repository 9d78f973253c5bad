"""What is sent away because there is too much is answered by the server's loop itself, most of it without the app.

Under overload most requests end here, and what each costs is taken from those at work (benchmarks/serving.py).
"""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs

from flask import Flask

from lib.web.browser import HEADERS
from lib.web.context import ADMISSION
from lib.web.failures import FAILURES
from lib.web.logs import HEADER, read_request_id, read_trace_id, write_line
from lib.web.metrics import MEASURED
from lib.web.problems import MEDIA_TYPE, from_project_error, problem_text

ROUTE = "/predict"


class Refusal:
    """A WSGI application in front of an app that sends away for it, in the words, headers and log lines of the app.

    Only where the app has nothing more to say: not to pages of other sites, nor where problems have another form.

    Parameters
    ----------
    app : Flask
    """

    def __init__(self, app: Flask):
        self._app, self._admission, self._measured = app, app.extensions[ADMISSION], app.extensions[MEASURED]
        self._failures = app.extensions[FAILURES]

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        """Answer a request."""
        if not self._admission.in_loop or environ["PATH_INFO"] != ROUTE or "HTTP_ORIGIN" in environ:
            return self._app(environ, start_response)
        return [self._send_away(environ, start_response)]

    def _send_away(self, environ: dict[str, Any], start_response: Callable) -> bytes:
        """503: its body."""
        arrived, id = perf_counter(), read_request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        problem = from_project_error(self._admission.refuse())
        body = problem_text(problem, id).encode()
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(len(body)),
            **problem.headers,
            HEADER: id,
            **HEADERS,
        }
        start_response(f"{problem.status} {problem.title}", list(headers.items()))
        method, seconds = environ["REQUEST_METHOD"], perf_counter() - arrived
        trace = read_trace_id(environ.get("HTTP_TRACEPARENT", ""))
        write_line(id, trace, method, ROUTE, problem.status, seconds, environ.get("REMOTE_ADDR"))
        self._measured.count(method, ROUTE, problem.status, seconds)
        self._failures.count(parse_qs(environ["QUERY_STRING"]).get("task", [None])[0], problem.status)
        return body
