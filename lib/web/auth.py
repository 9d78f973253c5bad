"""Who may change what serves: a bearer token for changing routes, and no request that another site's page sends."""

import hmac
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from lib.errors import ParameterError
from lib.web.problems import Problem

TOKEN = "SERVE_TOKEN"  # the environment variable, or with _FILE behind it the file, that holds the token
MIN_TOKEN = 16  # characters


def read_token() -> str | None:
    """The token that the environment sets, by itself or as a file's content; None where there is none.

    Raises
    ------
    ParameterError
        If the file cannot be read, or the token is shorter than MIN_TOKEN.
    """
    token = os.environ.get(TOKEN)
    if path := os.environ.get(f"{TOKEN}_FILE"):
        try:
            token = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"{TOKEN}_FILE names {path}, which cannot be read: {error}") from None
    if token is not None and len(token.strip()) < MIN_TOKEN:
        raise ParameterError(
            f"The token in {TOKEN} has {len(token.strip())} characters; at least {MIN_TOKEN} are needed."
        )
    return token.strip() if token else None


def token_required(view: Callable) -> Callable:
    """Let only requests with the token through to a view; without a token nobody is."""

    @wraps(view)
    def guarded(*arguments: Any, **options: Any) -> Any:
        token = current_app.config[TOKEN]
        if token is None:
            raise Problem(403, f"Changing what serves is off; start the service with {TOKEN} or {TOKEN}_FILE set.")
        if not has_token(token):
            raise Problem(
                401, "This needs the header Authorization: Bearer and the token.", {"WWW-Authenticate": "Bearer"}
            )
        return view(*arguments, **options)

    return guarded


def has_token(token: str) -> bool:
    """Whether the request carries this token; compared in constant time."""
    given = request.authorization
    sent = given.token if given is not None and given.type == "bearer" else None
    return hmac.compare_digest((sent or "").encode(), token.encode())


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
        token = app.config[TOKEN]
        if not own and not (token and has_token(token)):
            raise Problem(403, "A page of another site sent this; open this service's own page, or send a token.")
