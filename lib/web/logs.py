"""A line a request, and the ids by which a request is found again."""

import logging
import re
import uuid
from time import perf_counter

from flask import Flask, Response, g, request

HEADER = "X-Request-ID"
PROBES = ("/livez", "/readyz", "/healthz", "/metrics")  # asked every few seconds: not worth a line unless they fail
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, level 1

access = logging.getLogger("access")


def request_id() -> str:
    """This request's id."""
    if "request_id" not in g:
        g.request_id = read_request_id(request.headers.get(HEADER, ""))
    return g.request_id


def read_request_id(header: str) -> str:
    """The UUID that a client sent as X-Request-ID, or a new one."""
    try:
        return str(uuid.UUID(header))
    except ValueError:
        return str(uuid.uuid4())


def read_trace_id(header: str) -> str | None:
    """The trace that a header traceparent names, if it is well formed."""
    match = TRACEPARENT.fullmatch(header)
    return match[1] if match else None


def seconds_so_far() -> float:
    """Seconds since this request came to the app; 0 where it was refused before its clock was started."""
    return perf_counter() - g.arrived if "arrived" in g else 0.0


def log_requests(app: Flask) -> None:
    """Start every request's clock, log the request, and send its id back."""

    @app.before_request
    def start_clock() -> None:
        g.arrived = perf_counter()

    @app.after_request
    def log(response: Response) -> Response:
        response.headers[HEADER] = request_id()
        if request.path in PROBES and response.status_code < 400:
            return response
        trace = read_trace_id(request.headers.get("traceparent", ""))
        status, seconds = response.status_code, seconds_so_far()
        write_line(request_id(), trace, request.method, request.path, status, seconds, request.remote_addr)
        return response


def write_line(
    id: str, trace: str | None, method: str, path: str, status: int, seconds: float, client: str | None
) -> None:
    """Write the line of a request."""
    facts = {
        "request_id": id,
        "trace_id": trace,
        "method": method,
        "path": path,
        "status": status,
        "milliseconds": round(1000 * seconds, 1),
        "client": client,
    }
    text = f"{ascii(method)[1:-1]} {ascii(path)[1:-1]} {status}"
    access.info("%s in %s ms", text, facts["milliseconds"], extra={"facts": facts})
