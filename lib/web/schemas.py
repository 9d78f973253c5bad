"""What requests and answers look like, as JSON Schema, for the OpenAPI document."""

from typing import Any

from lib.decisions import Decision
from lib.experiments import CHALLENGER, CHAMPION, LEAST_EFFECT, MODES, State
from lib.web import classify, protocol

TEXT, NUMBER, WHOLE, FLAG = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def schemas() -> dict[str, Any]:
    """What answers look like."""
    pair = object_of({"label": TEXT, "probability": SHARE})
    decision = {"enum": [*Decision.__args__, None]}
    neighbor = object_of({"label": TEXT, "filename": TEXT, "distance": NUMBER, "image": or_null(TEXT)})
    heatmap = object_of({"label": TEXT, "exact": FLAG, "image": TEXT})
    answer = object_of(
        {"id": TEXT, "filename": or_null(TEXT), "label": TEXT, "probability": SHARE, "decision": decision,
         "top": list_of(pair), "set": list_of(TEXT)},
        {"heatmap": heatmap, "neighbors": list_of(neighbor)},
    )  # fmt: skip
    refused = object_of({"id": TEXT, "filename": or_null(TEXT), "error": {"$ref": "#/components/schemas/Problem"}})
    state = object_of({"task": TEXT, "model": TEXT, "problem": TEXT, "log": TEXT})
    estimate = object_of({"value": SHARE, "low": NUMBER, "high": NUMBER})
    test = object_of({"n": WHOLE, "accuracy": estimate, "macro_f1": estimate})
    gate = list_of(object_of({"rule": TEXT, "value": TEXT, "passed": FLAG}))
    model = object_of(
        {"version": TEXT, "champion": FLAG, "challenger": FLAG},
        {"model": TEXT, "classes": list_of(TEXT), "created": TEXT, "test": or_null(test), "problem": TEXT,
         "lineage": {"type": "object", "properties": {"gate": gate}}},
    )  # fmt: skip
    return {
        "Answers": object_of(
            {
                "task": TEXT,
                "model": TEXT,
                "arm": {"enum": [CHAMPION, CHALLENGER]},
                "logged": FLAG,
                "predictions": list_of({"oneOf": [answer, refused]}),
            }
        ),
        "Feedback": object_of({"task": TEXT, "id": TEXT, "label": TEXT, "new": FLAG, "repeated": FLAG}),
        "Models": object_of({"task": TEXT, "answering": TEXT, "problem": TEXT, "models": list_of(model)}),
        "Change": object_of({"task": TEXT, "champion": TEXT, "answering": TEXT}),
        **_of_experiments(),
        "Ready": object_of({"status": {"const": "ready"}, "tasks": list_of(state)}),
        **_of_protocol(),
        "Problem": object_of({"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT}, {"instance": TEXT}),
    }


def _of_experiments() -> dict[str, Any]:
    """Champion against challenger."""
    arm = object_of({"labels": WHOLE, "right": WHOLE, "clients": WHOLE})
    gap = object_of({"value": NUMBER, "low": NUMBER, "high": NUMBER})
    running = object_of(
        {"id": TEXT, "champion": TEXT, "challenger": TEXT, "mode": {"enum": list(MODES)}, "share": NUMBER,
         "effect": NUMBER, "started": NUMBER, "expires": NUMBER}
    )  # fmt: skip
    verdict = object_of(
        {"state": {"enum": list(State.__args__)}, "text": TEXT, "difference": or_null(gap), CHAMPION: arm,
         CHALLENGER: arm, "labels_needed": WHOLE}
    )  # fmt: skip
    wanted = object_of(
        {},
        {"challenger": TEXT, "mode": {"enum": list(MODES)}, "share": {"type": "number", "exclusiveMinimum": 0,
         "exclusiveMaximum": 1}, "days": {"type": "number", "exclusiveMinimum": 0, "maximum": 365},
         "effect": {"type": "number", "minimum": LEAST_EFFECT, "exclusiveMaximum": 1}},
    )  # fmt: skip
    return {
        "Experiment": object_of({"task": TEXT, "experiment": or_null(running), "verdict": or_null(verdict)}),
        "WantedExperiment": wanted,
    }


def _of_protocol() -> dict[str, Any]:
    """What the Open Inference Protocol sends."""
    anything = {"type": "object"}
    datatype, shape = {"enum": ["BYTES", "FP32"]}, list_of(WHOLE)
    one = {"type": "array", "items": WHOLE | {"minimum": 1, "maximum": classify.MAX_FILES}, "minItems": 1}
    data = {"type": "array", "items": TEXT | {"contentEncoding": "base64"}, "minItems": 1}
    sent = object_of(
        {"name": {"const": classify.FIELD}, "datatype": {"const": "BYTES"}, "shape": one | {"maxItems": 1}},
        {"parameters": anything, "data": data},
    )
    wanted = object_of({"name": {"enum": list(protocol.OUTPUTS)}}, {"parameters": anything})
    tensor = object_of({"name": TEXT, "datatype": datatype, "shape": shape})
    told = object_of(
        tensor["properties"],
        {"parameters": anything, "data": {"type": "array", "items": {"type": ["string", "number"]}}},
    )
    return {
        "InferenceRequest": object_of(
            {"inputs": {"type": "array", "items": sent, "minItems": 1, "maxItems": 1}},
            {"id": TEXT, "parameters": anything, "outputs": list_of(wanted)},
        ),
        "InferenceResponse": object_of(
            {"model_name": TEXT, "model_version": TEXT, "parameters": anything, "outputs": list_of(told)}, {"id": TEXT}
        ),
        "ServerMetadata": object_of({"name": TEXT, "version": TEXT, "extensions": list_of(TEXT)}),
        "ServerHealth": object_of({"live": FLAG}, {"ready": FLAG}),
        "ModelReady": object_of({"name": TEXT, "ready": FLAG}),
        "ModelMetadata": object_of(
            {"name": TEXT, "versions": list_of(TEXT), "platform": TEXT, "inputs": list_of(tensor),
             "outputs": list_of(tensor), "parameters": anything},
        ),
        "Error": object_of({"error": TEXT}),
    }  # fmt: skip


def object_of(members: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": members | (optional or {}),
        "required": list(members),
        "additionalProperties": False,
    }


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    """An array."""
    return {"type": "array", "items": items}


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A value that may be missing."""
    return {"oneOf": [schema, {"type": "null"}]}
