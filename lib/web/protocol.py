"""The Open Inference Protocol, version 2, under /v2: any client of Triton, KServe or MLServer can ask.

A task is a model, its version that answers the model's version. Input `image`: files; outputs: see `OUTPUTS`. Errors
are {"error": text}, as the protocol has it.
"""

import json
from typing import Any

import numpy as np
from flask import Blueprint, Response, request

import lib
from lib.serving import Arm
from lib.web import problems
from lib.web.classify import FIELD, MAX_FILES, Answer, Upload, asked_arm, classify, keep
from lib.web.context import admission, production_log, served_tasks
from lib.web.health import readyz
from lib.web.problems import Problem, from_image_error
from lib.web.tensors import Tensor, classification, described, pack, read_files, read_parameters, split_body

HEADER_LENGTH = "Inference-Header-Content-Length"
PLATFORM = "onnx_scikit-learn"
# name -> datatype and whether it has a column a class
OUTPUTS = {
    "label": ("BYTES", False),
    "probability": ("FP32", False),
    "decision": ("BYTES", False),
    "probabilities": ("FP32", True),
    "id": ("BYTES", False),
}
EVERY_OUTPUT = [{"name": name} for name in OUTPUTS]

blueprint = Blueprint("protocol", __name__, url_prefix="/v2")
blueprint.record(lambda state: problems.use_form(state.app, "/v2", error))


def error(problem: Problem) -> Response:
    """A problem as the protocol tells it."""
    return Response(json.dumps({"error": problem.detail}), mimetype="application/json")  # ASCII, as in `packed`


@blueprint.get("")
def server() -> dict:
    """What this server is."""
    return {
        "name": "image-classification-pipeline",
        "version": lib.__version__,
        "extensions": ["binary_tensor_data", "classification"],
    }


@blueprint.get("/health/live")
def live() -> dict:
    """200 as long as the process answers at all."""
    return {"live": True}


@blueprint.get("/health/ready")
def ready() -> dict:
    """200 where every task answers; the specification and its OpenAPI document name the member differently."""
    readyz()
    return {"live": True, "ready": True}


@blueprint.get("/models/<model>/ready")
@blueprint.get("/models/<model>/versions/<version>/ready")
def model_ready(model: str, version: str | None = None) -> dict:
    """200 where a task answers, with this version if one is named."""
    asked(model, version)
    return {"name": model, "ready": True}


@blueprint.get("/models/<model>")
@blueprint.get("/models/<model>/versions/<version>")
def metadata(model: str, version: str | None = None) -> dict:
    """A task's inputs and outputs, and the classes in the order of `probabilities`."""
    predictor = asked(model, version).predictor
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, len(predictor.classes)] if by_class else [-1]}
        for name, (datatype, by_class) in OUTPUTS.items()
    ]
    return {
        "name": model,
        "versions": [predictor.version.name],
        "platform": PLATFORM,
        "inputs": [{"name": FIELD, "datatype": "BYTES", "shape": [-1]}],
        "outputs": outputs,
        "parameters": {"classes": predictor.classes, "max_images": MAX_FILES},
    }


@blueprint.post("/models/<model>/infer")
@blueprint.post("/models/<model>/versions/<version>/infer")
def infer(model: str, version: str | None = None) -> Response:
    """Classify the image files of the input; one that is refused refuses the request, for tensors have no holes."""
    with admission().accepted() as work:
        arm = asked(model, version)
        predictor = arm.predictor
        body, binary = split_body(request.get_data(parse_form_data=False), request.headers.get(HEADER_LENGTH))
        wanted = read_outputs(body)
        log = production_log(model)
        answers = classify(arm, model, read_inputs(body, binary), work, log)
        refuse_holes(answers)
        logged = keep(log, arm, model, answers)
    head = {"model_name": model, "model_version": predictor.version.name, "parameters": {"logged": logged}}
    if isinstance(body.get("id"), str):
        head["id"] = body["id"]
    return packed(head, tensors(answers, predictor.classes, wanted), wanted)


def asked(model: str, version: str | None) -> Arm:
    """What a task answers this client with.

    Raises
    ------
    Problem
        404 if another version is named than the one that answers.
    UnknownTaskError, ArtifactError
    """
    arm = asked_arm(served_tasks().get(model))
    name = arm.predictor.version.name
    if version not in (None, name):
        raise Problem(404, f"Version {version[:80]!r} of {model} does not answer; {name} does.")
    return arm


def read_inputs(body: dict[str, Any], binary: bytes) -> list[Upload]:
    """The request's image files."""
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise Problem(400, f"An inference request has one input, {FIELD!r} with datatype BYTES.")
    files = read_files(inputs[0], binary, FIELD)
    if len(files) > MAX_FILES:
        raise Problem(400, f"{len(files)} images came; at most {MAX_FILES} are answered in a request.")
    return [Upload(None, data) for data in files]


def read_outputs(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Names of the outputs that are wanted, every one by default, each with its parameters."""
    given = body.get("outputs", [])
    if not isinstance(given, list) or not all(map(is_named, given)):
        raise Problem(400, "`outputs` must be a list of objects with a `name`.")
    shared = read_parameters(body)
    as_binary = {"binary_data": shared.get("binary_data_output", False)}
    wanted = {item["name"]: as_binary | read_parameters(item) for item in given or EVERY_OUTPUT}
    for name, parameters in wanted.items():
        if name not in OUTPUTS:
            raise Problem(400, f"There is no output {name[:40]!r}; there are {', '.join(OUTPUTS)}.")
        k = parameters.get("classification", 0)
        if type(k) is not int or k < 0 or (k and name != "probabilities"):
            raise Problem(400, "`classification` is a number of classes, and belongs to the output `probabilities`.")
    return wanted


def is_named(output: Any) -> bool:
    """Whether this is an object with a name."""
    return isinstance(output, dict) and isinstance(output.get("name"), str)


def refuse_holes(answers: list[Answer]) -> None:
    """Raise the problem of the first refused file."""
    for number, answer in enumerate(answers, 1):
        if answer.refused:
            problem = from_image_error(answer.result)
            raise Problem(problem.status, f"Image {number} of {len(answers)}: {problem.detail}")


def tensors(answers: list[Answer], classes: list[str], wanted: dict[str, dict[str, Any]]) -> list[Tensor]:
    """The outputs that are wanted."""
    results = [answer.result for answer in answers]
    by_class = [dict(zip(result.labels, result.probabilities, strict=True)) for result in results]
    columns = {
        "label": np.array([result.label for result in results]),
        "probability": np.array([result.probability for result in results], dtype=np.float32),
        "decision": np.array([result.decision or "" for result in results]),
        "probabilities": np.array([[row[label] for label in classes] for row in by_class], dtype=np.float32),
        "id": np.array([answer.id for answer in answers]),
    }
    found = []
    for name, parameters in wanted.items():
        values, k = columns[name], parameters.get("classification", 0)
        found.append(Tensor(name, classification(values, classes, k) if k else values))
    return found


def packed(head: dict[str, Any], outputs: list[Tensor], wanted: dict[str, dict[str, Any]]) -> Response:
    """The answer: JSON, and behind it the outputs that were wanted as binary data."""
    binaries = [pack(tensor) if wanted[tensor.name].get("binary_data") else None for tensor in outputs]
    told = [described(tensor, binary) for tensor, binary in zip(outputs, binaries, strict=True)]
    behind = [binary for binary in binaries if binary is not None]
    text = json.dumps(head | {"outputs": told}).encode()  # ASCII: an id may hold what UTF-8 cannot
    if not behind:
        return Response(text, mimetype="application/json")
    headers = {HEADER_LENGTH: str(len(text))}
    return Response(b"".join([text, *behind]), headers=headers, mimetype="application/octet-stream")
