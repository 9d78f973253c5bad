"""Problem documents (RFC 9457): every error of the service has one form, but where another is asked of a route."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from lib.errors import DeadlineError, ImageError, OverloadedError, ProjectError, UnknownTaskError
from lib.web.limits import MAX_BODY
from lib.web.logs import request_id

MEDIA_TYPE = "application/problem+json"
FORMS = "problem_forms"  # in the app's extensions: what a path begins with -> how its problems are told
# error -> status, and after how many seconds to try again; others are 503, for they lie in what the service reads
STATUS = {OverloadedError: (503, "1"), DeadlineError: (504, ""), UnknownTaskError: (404, "")}
IMAGE_STATUS = {"empty": 400, "unsupported": 415, "broken": 422, "too_large": 422}


class Problem(Exception):
    """An error that is answered as a problem document.

    Parameters
    ----------
    status : int
        HTTP status.
    detail : str
        What came, what is allowed, what to do.
    headers : dict, optional
        More response headers; a list is sent as a header for each.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str | list[str]] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase


def document(status: int, detail: str) -> dict[str, Any]:
    """The members that every problem has; `title` is constant for a status."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def use_form(app: Flask, prefix: str, form: Callable[[Problem], Response]) -> None:
    """Have the problems of a path, and of what lies below it, told in another form."""
    app.extensions.setdefault(FORMS, {})[prefix] = form


def response(problem: Problem) -> Response:
    """A problem as an HTTP response, in the form of the path that was asked for."""
    forms = current_app.extensions.get(FORMS, {})
    form = next((forms[prefix] for prefix in forms if is_below(request.path, prefix)), problem_document)
    answer = form(problem)
    answer.status_code = problem.status
    answer.headers.update(problem.headers)
    return answer


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is this one, or lies below it."""
    return path == prefix or path.startswith(f"{prefix}/")


def problem_document(problem: Problem) -> Response:
    """A problem as RFC 9457 has it."""
    return current_app.response_class(problem_text(problem, request_id()), mimetype=MEDIA_TYPE)


def problem_text(problem: Problem, id: str) -> str:
    """The document of a request's problem, as JSON."""
    body = document(problem.status, problem.detail) | {"instance": f"urn:uuid:{id}"}
    return json.dumps(body, ensure_ascii=False) + "\n"


def from_project_error(error: ProjectError) -> Problem:
    """An error of ours that no route has told otherwise, as a problem."""
    status, retry_after = STATUS.get(type(error), (503, "10"))
    return Problem(status, str(error), {"Retry-After": retry_after} if retry_after else None)


def from_image_error(error: ImageError) -> Problem:
    """A refused image as a problem: 400 empty, 415 no image, 422 broken or too many pixels."""
    return Problem(IMAGE_STATUS[error.kind], f"The image was refused: {error}.")


def register_problem_handlers(app: Flask) -> None:
    """Answer our own and the framework's errors as problem documents; what nobody foresaw is 500 without a trace."""

    @app.errorhandler(Problem)
    def on_problem(problem: Problem) -> Response:
        return response(problem)

    @app.errorhandler(ProjectError)
    def on_project_error(error: ProjectError) -> Response:
        return response(from_project_error(error))

    @app.errorhandler(HTTPException)
    def on_http_exception(error: HTTPException) -> Response:
        status = error.code or 500
        if status == 413 and (request.content_length or 0) <= app.config[MAX_BODY]:
            detail = "The form has more parts or longer text fields than allowed; send images as files."
        elif status == 413:
            detail = f"The request is larger than the {app.config[MAX_BODY]:,} bytes allowed."
        elif status >= 500:
            detail = "The service failed; the cause is in its log."
        else:
            detail = error.description or HTTPStatus(status).phrase
        kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
        return response(Problem(status, detail, kept))
