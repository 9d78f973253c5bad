"""POST /feedback: the right label of an image that was answered."""

import re

from flask import Blueprint, request

from lib.errors import FeedbackError, LogError
from lib.production import Feedback
from lib.quota import client_of
from lib.serving import ServedTask
from lib.storage import sha256_bytes
from lib.web.bodies import read_json
from lib.web.classify import FIELD, pseudonym
from lib.web.context import admission, asked_task, production_log
from lib.web.problems import Problem

MAX_LABEL, MAX_KEY = 200, 200  # characters
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # characters that break lines or terminals
LABEL = rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"

blueprint = Blueprint("feedback", __name__)


@blueprint.post("/feedback")
def feedback() -> tuple[dict, int]:
    """Keep a label for a prediction's id (JSON or form), or for an image (form field `image`).

    201 when it is durable; 200 where the same Idempotency-Key had brought it before; 404 without such a prediction.
    """
    task, given = give()
    answer = {"task": task.name, "id": given.prediction, "label": given.label, "new": given.is_new}
    return answer | {"repeated": given.repeated}, 200 if given.repeated else 201


def give() -> tuple[ServedTask, Feedback]:
    """Keep the label that the request brings, and say of which task; durable when this returns.

    Raises
    ------
    Problem
        400 for a request that is none, 404 without such a prediction, 422 where the Idempotency-Key came with other
        feedback before, 503 where nothing is kept.
    """
    with admission().accepted():
        task = asked_task()
        log = production_log(task.name)
        if log is None:
            raise Problem(503, "This service keeps no log, so it takes no feedback; start it without --no-log.")
        label, prediction, sha256 = read_feedback()
        try:
            return task, log.give_feedback(
                label,
                task.predictor.classes,
                prediction=prediction,
                sha256=sha256,
                key=read_key(),
                source=pseudonym(task.name, client_of(request.remote_addr)),
            )
        except FeedbackError as error:
            raise Problem({"unknown": 404, "reused": 422}[error.kind], str(error)) from error
        except LogError as error:
            raise Problem(503, str(error), {"Retry-After": "5"}) from error


def read_feedback() -> tuple[str, str, str]:
    """The label, and a prediction's id or the SHA-256 of an image; the other one is "".

    Raises
    ------
    Problem
        400 where one is missing or cannot be read.
    """
    fields = read_json() if request.is_json else request.form
    if not hasattr(fields, "get"):
        raise Problem(
            400, 'Feedback is a JSON object such as {"id": "...", "label": "cat"}, or a form with these fields.'
        )
    label, prediction = fields.get("label"), fields.get("id", "")
    if not isinstance(label, str) or not is_label(label):
        raise Problem(400, f"`label` must be a text of 1 to {MAX_LABEL} characters without line breaks.")
    file = request.files.get(FIELD)
    if (file is None) == (not prediction) or not isinstance(prediction, str):
        raise Problem(400, f"Say which answer is meant: either its `id`, or the image itself as form field {FIELD!r}.")
    if prediction and not re.fullmatch("[0-9a-f]{32}", prediction):
        raise Problem(404, f"There is no prediction {prediction[:40]!r}; ids have 32 digits from 0 to f.")
    return label.strip(), prediction, sha256_bytes(file.read()) if file else ""


def is_label(text: str) -> bool:
    """Whether a text can be a label: short, not blank, without control characters, and UTF-8 can hold it."""
    return (
        len(text) <= MAX_LABEL
        and re.fullmatch(LABEL, text) is not None
        and text.encode("utf-8", "ignore").decode() == text
    )


def read_key() -> str | None:
    """The header Idempotency-Key, if it came."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= MAX_KEY:
        raise Problem(400, f"The header Idempotency-Key must have 1 to {MAX_KEY} characters.")
    return key
