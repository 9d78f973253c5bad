"""A request's JSON body, for the routes that take a small one."""

from flask import request

from lib.web.problems import Problem

MAX_JSON = 10_000  # bytes


def read_json() -> object:
    """The JSON body; None where it is none.

    Raises
    ------
    Problem
        413 for a long one, which is not even parsed: that would hold up all others.
    """
    if (request.content_length or 0) > MAX_JSON:
        raise Problem(413, f"JSON has at most {MAX_JSON:,} bytes here.")
    try:
        return request.get_json(silent=True)
    except RecursionError:
        return None
