"""How often a client may ask: RateLimit headers (draft-ietf-httpapi-ratelimit-headers), and 429 beyond."""

from math import ceil

from flask import Flask, Response, g, request

from lib.quota import Quota, client_of
from lib.web.problems import Problem


def limit_rate(app: Flask, quota: Quota | None) -> None:
    """Answer 429 to a client whose quota of requests that make work (POST) is used up; None sets no limit."""
    if quota is None:
        return

    @app.before_request
    def take() -> None:
        if request.method != "POST":
            return
        g.allowance = quota.take(client_of(request.remote_addr))
        if not g.allowance.allowed:
            raise Problem(
                429,
                f"More than {quota.n} requests came from your address within {quota.period:g} seconds; wait.",
                {"Retry-After": str(ceil(g.allowance.wait))},
            )

    @app.after_request
    def tell(response: Response) -> Response:
        if "allowance" in g:
            response.headers["RateLimit-Policy"] = f'"client";q={quota.n};w={quota.period:g}'
            response.headers["RateLimit"] = f'"client";r={g.allowance.remaining};t={ceil(g.allowance.wait)}'
        return response
