"""What keeps browsers from being used against the service: whom it answers as, and headers that forbid the rest.

Routes that answer a page set a policy of their own, which allows the page's parts.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request

from lib.errors import ParameterError
from lib.web.problems import Problem

ORIGINS = "ALLOWED_ORIGINS"  # in the app's configuration
SHARED = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Traceparent, X-Request-ID",
    "Access-Control-Max-Age": "600",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def trusted_hosts(host: str, others: list[str]) -> list[str] | None:
    """Names that the service may be called by, None for any.

    Parameters
    ----------
    host : str
        Address that it listens on. On the loopback only this machine's own names are right, so that a page whose name
        was made to lead here (DNS rebinding) gets nothing.
    others : list of str
        Names that the operator allows.
    """
    own = LOOPBACK if host in LOOPBACK else ()
    return [*own, *others] or None


def harden(app: Flask, hosts: list[str] | None) -> None:
    """Answer only to these names, and send the headers with everything."""

    @app.before_request
    def refuse_other_names() -> None:  # Werkzeug's TRUSTED_HOSTS knows no address of IPv6
        if hosts is not None and not is_named(request.headers.get("Host", ""), hosts):
            raise Problem(
                400, "This service is not called by that name; start it with --trusted-host to allow another."
            )

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def is_named(header: str, names: list[str]) -> bool:
    """Whether the header Host has one of these names, with any port; ".example.com" stands for all names below it."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if "@" in header:
        return False
    return any(name == known.lower() or (known.startswith(".") and name.endswith(known.lower())) for known in names)


def read_origins(texts: Sequence[str]) -> tuple[str, ...]:
    """Origins that the operator allows, such as https://birds.example; raises ParameterError for what is none."""
    for text in texts:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or text != f"{parts.scheme}://{parts.netloc}" or not parts.netloc:
            raise ParameterError(f"{text!r} is no origin; write it as browsers do, such as https://birds.example.")
    return tuple(texts)


def share_with(app: Flask, origins: Sequence[str]) -> None:
    """Let pages of these origins ask and read the answers (CORS, as the Fetch standard has it); no other may."""
    app.config[ORIGINS] = origins

    @app.before_request
    def answer_preflight() -> Response | None:
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return app.response_class(status=204, headers=SHARED) if asked and is_shared() else None

    @app.after_request
    def allow(response: Response) -> Response:
        if is_shared():
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = "RateLimit, Retry-After, X-Request-ID"
        if origins:
            response.vary.add("Origin")
        return response


def is_shared() -> bool:
    """Whether a page that the operator allows sent the request."""
    return request.headers.get("Origin") in current_app.config[ORIGINS]
