"""POST /predict: image files in, labels with calibrated probabilities out."""

import uuid
from dataclasses import dataclass

from flask import Blueprint, g, request

from lib.errors import ImageError
from lib.prediction import Prediction
from lib.production import Logged
from lib.storage import sha256_bytes
from lib.web.context import admission, asked_task, production_log
from lib.web.explain import MAX_EXPLAINED, explain, read_explain
from lib.web.logs import seconds_so_far
from lib.web.problems import Problem, document, from_image_error

FIELD = "image"
MAX_FILES = 64
DEFAULT_TOP_K, MAX_TOP_K = 5, 100_000

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
    with admission().accepted() as work:
        task = asked_task()
        predictor = task.predictor
        top_k, explained = read_top_k(len(predictor.classes)), read_explain()
        uploads = read_uploads(MAX_EXPLAINED if explained else MAX_FILES)
        with work.slot():
            results = predictor.predict([upload.data for upload in uploads], check=work.check)
            if len(results) == 1 and isinstance(results[0], ImageError):
                raise from_image_error(results[0])
            answers = [
                answer(upload, result, top_k) | explain(predictor, upload.data, result, explained, work)
                for upload, result in zip(uploads, results, strict=True)
            ]
        logged = record(task.name, predictor.version.name, uploads, results, answers, 1000 * seconds_so_far())
    g.decisions = [(task.name, str(result.decision)) for result in results if isinstance(result, Prediction)]
    return {"task": task.name, "model": predictor.version.name, "logged": logged, "predictions": answers}


def read_top_k(n_classes: int) -> int:
    """?top_k= as a number of classes, 5 by default."""
    text = request.args.get("top_k", str(DEFAULT_TOP_K))
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MAX_TOP_K):
        raise Problem(400, f"top_k must be a whole number from 1 to {MAX_TOP_K:,}, not {text[:40]!r}.")
    return min(int(text), n_classes)


def read_uploads(limit: int) -> list[Upload]:
    """The request's files.

    Raises
    ------
    Problem
        400 without any, or with more than `limit`.
    """
    if request.mimetype != "multipart/form-data":
        data = request.get_data(parse_form_data=False)
        if not data:
            raise Problem(400, f"No image came: send a file as multipart field {FIELD!r}, or its bytes as the body.")
        return [Upload(None, data)]
    files = request.files.getlist(FIELD)
    if len(files) > limit:
        raise Problem(400, f"{len(files)} files came; at most {limit} are answered in such a request.")
    if not files:
        names = ", ".join(repr(name) for name in sorted({*request.files, *request.form})) or "no field"
        raise Problem(
            400, f"No image came: the form has {names}; send a file as field {FIELD!r} (curl -F {FIELD}=@file)."
        )
    return [Upload(file.filename, file.read()) for file in files]


def record(
    task: str, version: str, uploads: list[Upload], results: list, answers: list[dict], milliseconds: float
) -> bool:
    """Keep what was answered, but for refused files; whether it is durable, so that feedback will find it."""
    log = production_log(task)
    if log is None:
        return False
    good = [items for items in zip(uploads, results, answers, strict=True) if isinstance(items[1], Prediction)]
    rows = [
        Logged(
            id=said["id"],
            version=version,
            arm="champion",
            label=result.label,
            probability=result.probability,
            decision=result.decision,
            distance=result.distance,
            milliseconds=milliseconds,
            sha256=sha256_bytes(upload.data),
            vector=result.vector,
        )
        for upload, result, said in good
    ]
    return log.record(rows, [upload.data for upload, _, _ in good])


def answer(upload: Upload, result: Prediction | ImageError, top_k: int) -> dict:
    """One file's part of the response."""
    head = {"id": uuid.uuid4().hex, "filename": upload.filename}
    if isinstance(result, ImageError):
        problem = from_image_error(result)
        return head | {"error": document(problem.status, problem.detail)}
    pairs = zip(result.labels[:top_k], result.probabilities[:top_k], strict=True)
    top = [{"label": label, "probability": probability} for label, probability in pairs]
    return head | {
        "label": result.label,
        "probability": result.probability,
        "decision": result.decision,
        "top": top,
        "set": list(result.label_set),
    }
