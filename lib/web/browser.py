"""What keeps browsers from being used against the service: whom it answers as, and headers that forbid the rest.

Routes that answer a page set a policy of their own, which allows the page's parts.
"""

from urllib.parse import urlsplit

from flask import Flask, Response, request

from lib.web.problems import Problem

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
