"""POST /predict: image files in, labels with calibrated probabilities out."""

import uuid
from dataclasses import dataclass

from flask import Blueprint, request

from lib.errors import ImageError
from lib.prediction import Prediction
from lib.web.model import served_model
from lib.web.problems import Problem, document, from_image_error

FIELD = "image"
MAX_FILES = 64
DEFAULT_TOP_K = 5

blueprint = Blueprint("predict", __name__)


@dataclass(frozen=True)
class Upload:
    """One file of a request; `filename` is None for a raw body."""

    filename: str | None
    data: bytes


@blueprint.post("/predict")
def predict() -> dict:
    """Classify the files of a multipart form (field `image`, repeatable) or the raw body.

    A single bad file is a problem; among several, each has its result or its own error.
    """
    model = served_model()
    predictor = model.predictor()
    check_task(model.task)
    top_k = read_top_k(len(predictor.classes))
    uploads = read_uploads()
    results = predictor.predict([upload.data for upload in uploads])
    if len(results) == 1 and isinstance(results[0], ImageError):
        raise from_image_error(results[0])
    answers = [answer(upload, result, top_k) for upload, result in zip(uploads, results, strict=True)]
    return {"task": model.task, "model": predictor.version.name, "predictions": answers}


def check_task(task: str | None) -> None:
    """Refuse a ?task= that is not the one served."""
    asked = request.args.get("task", task)
    if asked != task:
        raise Problem(404, f"There is no task {asked!r} here; this service answers for {task!r}.")


def read_top_k(n_classes: int) -> int:
    """?top_k= as a number of classes, 5 by default."""
    text = request.args.get("top_k", str(DEFAULT_TOP_K))
    if not (text.isascii() and text.isdigit() and int(text[:6]) >= 1):
        raise Problem(400, f"top_k must be a whole number from 1 up, not {text[:40]!r}.")
    return min(int(text[:6]), n_classes)


def read_uploads() -> list[Upload]:
    """The request's files.

    Raises
    ------
    Problem
        400 without any, or with more than MAX_FILES.
    """
    if request.mimetype != "multipart/form-data":
        data = request.get_data(parse_form_data=False)
        if not data:
            raise Problem(400, f"No image came: send a file as multipart field {FIELD!r}, or its bytes as the body.")
        return [Upload(None, data)]
    files = request.files.getlist(FIELD)
    if len(files) > MAX_FILES:
        raise Problem(400, f"{len(files)} files came; at most {MAX_FILES} are answered in one request.")
    if not files:
        names = ", ".join(repr(name) for name in sorted({*request.files, *request.form})) or "no field"
        raise Problem(
            400, f"No image came: the form has {names}; send a file as field {FIELD!r} (curl -F {FIELD}=@file)."
        )
    return [Upload(file.filename, file.read()) for file in files]


def answer(upload: Upload, result: Prediction | ImageError, top_k: int) -> dict:
    """One file's part of the response."""
    head = {"id": uuid.uuid4().hex, "filename": upload.filename}
    if isinstance(result, ImageError):
        problem = from_image_error(result)
        return head | {"error": document(problem.status, problem.detail)}
    pairs = zip(result.labels[:top_k], result.probabilities[:top_k], strict=True)
    top = [{"label": label, "probability": probability} for label, probability in pairs]
    return head | {"label": result.label, "probability": result.probability, "top": top}
