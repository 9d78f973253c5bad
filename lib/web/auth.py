"""Who may ask and who may change what serves: tokens, and no request that another site's page sends."""

import hmac
import re
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from lib.errors import ParameterError
from lib.settings import is_set, read_setting
from lib.web.browser import is_shared
from lib.web.logs import PROBES
from lib.web.problems import Problem

# Environment variables, or with _FILE behind them files, that hold the tokens
SERVE_TOKEN = "SERVE_TOKEN"  # opens everything
PREDICT_TOKEN = "PREDICT_TOKEN"  # where it is set, it or the other is needed for all but the probes
MIN_TOKEN = 16  # characters
BEARER = r"[A-Za-z0-9._~+/-]+=*"  # RFC 6750, section 2.1
OPEN = (*PROBES, "/v2/health/live", "/v2/health/ready")
CHALLENGE = {"WWW-Authenticate": ["Bearer", 'Basic realm="Predictions; the password is the token", charset="UTF-8"']}


def read_token(name: str = SERVE_TOKEN) -> str | None:
    """A token that the environment sets, by itself or as a file's content; None where there is none.

    Raises
    ------
    ParameterError
        If the file cannot be read, or the token is shorter than MIN_TOKEN or could not be sent in a header.
    """
    if not is_set(name):
        return None
    token = read_setting(name)
    if len(token) < MIN_TOKEN:
        raise ParameterError(f"The token in {name} has {len(token)} characters; at least {MIN_TOKEN} are needed.")
    if not re.fullmatch(BEARER, token):
        raise ParameterError(f"The token in {name} may have letters, digits and - . _ ~ + / only, and = at its end.")
    return token


def read_tokens(app: Flask) -> None:
    """Put both tokens into an app's configuration."""
    app.config[SERVE_TOKEN], app.config[PREDICT_TOKEN] = read_token(SERVE_TOKEN), read_token(PREDICT_TOKEN)


def token_required(view: Callable) -> Callable:
    """Let only requests with the token through to a view; without a token nobody is."""

    @wraps(view)
    def guarded(*arguments: Any, **options: Any) -> Any:
        token = current_app.config[SERVE_TOKEN]
        if token is None:
            raise Problem(
                403, f"Changing what serves is off; start the service with {SERVE_TOKEN} or {SERVE_TOKEN}_FILE set."
            )
        if not has_token(token):
            raise Problem(
                401, "This needs the header Authorization: Bearer and the token.", {"WWW-Authenticate": "Bearer"}
            )
        return view(*arguments, **options)

    return guarded


def has_token(token: str | None) -> bool:
    """Whether the request carries this token; no request carries None."""
    given = request.authorization
    return is_same(given.token if given is not None and given.type == "bearer" else None, token)


def has_password(token: str | None) -> bool:
    """Whether the request carries this token as the password of a browser's own question (RFC 7617)."""
    given = request.authorization
    return is_same(given.password if given is not None and given.type == "basic" else None, token)


def is_same(sent: str | None, token: str | None) -> bool:
    """Whether what was sent is the token; takes the same time wherever they differ."""
    return token is not None and hmac.compare_digest((sent or "").encode(), token.encode())


def require_token(app: Flask) -> None:
    """Where PREDICT_TOKEN is set, answer only who has it or SERVE_TOKEN; anybody may ask the probes."""

    @app.before_request
    def may_ask() -> None:
        token = app.config[PREDICT_TOKEN]
        if token is None or request.path in OPEN:
            return
        if not (has_token(token) or has_password(token) or has_token(app.config[SERVE_TOKEN])):
            raise Problem(401, "This needs the header Authorization: Bearer and the token.", CHALLENGE)


def is_own(origin: str) -> bool:
    """Whether the header Origin names this service's own address."""
    try:
        return urlsplit(origin).netloc == request.host
    except ValueError:
        return False


def refuse_other_sites(app: Flask) -> None:
    """Refuse changing requests that a page of another site sends, whatever the visitor's browser would add to them."""

    @app.before_request
    def same_site() -> None:
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        own = site in ("same-origin", "none") if site is not None else origin is None or is_own(origin)
        # No browser adds a bearer token by itself, so one that is right was meant; a password it does add.
        if (
            not own
            and not is_shared()
            and not (has_token(app.config[SERVE_TOKEN]) or has_token(app.config[PREDICT_TOKEN]))
        ):
            raise Problem(403, "A page of another site sent this; open this service's own page, or send a token.")
