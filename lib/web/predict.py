"""POST /predict: image files in, labels with calibrated probabilities out."""

from flask import Blueprint, request

from lib.web.classify import MAX_FILES, Answer, asked_arm, classify, keep, read_uploads
from lib.web.context import admission, asked_task, production_log
from lib.web.explain import MAX_EXPLAINED, read_explain
from lib.web.problems import Problem, document, from_image_error

DEFAULT_TOP_K, MAX_TOP_K = 5, 100_000

blueprint = Blueprint("predict", __name__)


@blueprint.post("/predict")
def predict() -> dict:
    """Classify the files of a multipart form (field `image`, repeatable) or the raw body.

    A single bad file is a problem; among several, each has its result or its own error.
    """
    with admission().accepted() as work:
        task = asked_task()
        arm = asked_arm(task)
        predictor = arm.predictor
        top_k, explained = read_top_k(len(predictor.classes)), read_explain()
        log = production_log(task.name) if read_log() else None
        uploads = read_uploads(MAX_EXPLAINED if explained else MAX_FILES)
        answers = classify(arm, task.name, uploads, work, log, explained)
        logged = keep(log, arm, task.name, answers)
    told = [described(answer, top_k) for answer in answers]
    return {"task": task.name, "model": predictor.version.name, "arm": arm.name, "logged": logged, "predictions": told}


def read_top_k(n_classes: int) -> int:
    """?top_k= as a number of classes, 5 by default."""
    text = request.args.get("top_k", str(DEFAULT_TOP_K))
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MAX_TOP_K):
        raise Problem(400, f"top_k must be a whole number from 1 to {MAX_TOP_K:,}, not {text[:40]!r}.")
    return min(int(text), n_classes)


def read_log() -> bool:
    """?log=false: whether to keep the answers, as is done otherwise."""
    text = request.args.get("log", "true")
    if text not in ("true", "false"):
        raise Problem(400, f"log must be true or false, not {text[:40]!r}.")
    return text == "true"


def described(answer: Answer, top_k: int) -> dict:
    """One file's part of the response."""
    head, result = {"id": answer.id, "filename": answer.upload.filename}, answer.result
    if answer.refused:
        problem = from_image_error(result)
        return head | {"error": document(problem.status, problem.detail)}
    pairs = zip(result.labels[:top_k], result.probabilities[:top_k], strict=True)
    told = {
        "label": result.label,
        "probability": result.probability,
        "decision": result.decision,
        "top": [{"label": label, "probability": probability} for label, probability in pairs],
        "set": list(result.label_set),
    }
    return head | told | answer.explanations
