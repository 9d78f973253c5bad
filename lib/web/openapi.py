"""GET /openapi.json: what the service answers, for people's tools and for tests (OpenAPI 3.1)."""

from typing import Any

from flask import Blueprint, current_app

from lib.decisions import Decision
from lib.web import explain, feedback, predict
from lib.web.limits import MAX_BODY

VERSION = "0.1.0"  # of the interface
PROBLEM = "application/problem+json"
TEXT, NUMBER, WHOLE, FLAG = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
SHARE = {"type": "number", "minimum": 0, "maximum": 1}

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> dict:
    """The document."""
    return document(current_app.config[MAX_BODY])


def document(max_body: int) -> dict[str, Any]:
    """The OpenAPI document of a service that reads bodies of at most `max_body` bytes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image classification",
            "version": VERSION,
            "description": f"Errors are problem documents (RFC 9457). Bodies have at most {max_body:,} bytes.",
        },
        "paths": {**_answering(), **_models(), **_operating()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _answering() -> dict[str, Any]:
    """/predict and /feedback."""
    file = {"type": "string", "format": "binary"}
    top_k = _query("top_k", WHOLE | {"minimum": 1, "maximum": predict.MAX_TOP_K, "default": predict.DEFAULT_TOP_K})
    explained = _query(
        "explain", {"type": "array", "items": {"enum": list(explain.EXPLANATIONS)}}, style="form", explode=False
    )
    images = {"type": "array", "items": file, "minItems": 1, "maxItems": predict.MAX_FILES}
    label = TEXT | {"minLength": 1, "maxLength": feedback.MAX_LABEL, "pattern": feedback.LABEL}
    given = _object({"id": TEXT | {"pattern": "^[0-9a-f]{32}$"}, "label": label})
    key = {"name": "Idempotency-Key", "in": "header",
           "schema": TEXT | {"minLength": 1, "maxLength": feedback.MAX_KEY}}  # fmt: skip
    return {
        "/predict": {
            "post": {
                "summary": "Classify image files: a form's fields `image`, or the raw body.",
                "parameters": [_task(), top_k, explained],
                "requestBody": {
                    "required": True,
                    "content": {
                        "multipart/form-data": {"schema": _object({predict.FIELD: images})},
                        "application/octet-stream": {"schema": file},
                    },
                },
                "responses": _responses({200: "Answers"}, 400, 403, 404, 413, 415, 422, 503, 504),
            }
        },
        "/feedback": {
            "post": {
                "summary": "Tell the right label of an answered image, by the answer's id or by the image.",
                "parameters": [_task(), key],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": given},
                        "multipart/form-data": {"schema": _object({feedback.FIELD: file, "label": label})},
                    },
                },
                "responses": _responses({201: "Feedback", 200: "Feedback"}, 400, 403, 404, 413, 422, 503),
            }
        },
    }


def _models() -> dict[str, Any]:
    """Routes that tell and change what serves."""
    version = {"name": "version", "in": "path", "required": True, "schema": TEXT}
    changed = _responses({200: "Change"}, 400, 401, 403, 404, 409, 503)
    return {
        "/models": {
            "get": {
                "summary": "A task's versions, newest last.",
                "parameters": [_task()],
                "responses": _responses({200: "Models"}, 400, 404, 503),
            }
        },
        "/models/{version}/promote": {
            "post": {
                "summary": "Make a version the champion, once it has been loaded.",
                "parameters": [version, _task()],
                "security": [{"token": []}],
                "responses": changed,
            }
        },
        "/models/rollback": {
            "post": {
                "summary": "Make the champion before this one the champion again.",
                "parameters": [_task()],
                "security": [{"token": []}],
                "responses": changed,
            }
        },
    }


def _operating() -> dict[str, Any]:
    """Probes, metrics, and this document."""
    ready = {"get": {"summary": "What answers, or why nothing does.", "responses": _responses({200: "Ready"}, 503)}}
    plain = {"200": {"description": "OK", "content": {"text/plain": {"schema": TEXT}}}}
    anything = {"200": {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}}
    return {
        "/livez": {"get": {"summary": "Whether the process lives.", "responses": anything}},
        "/readyz": ready,
        "/healthz": ready,
        "/metrics": {"get": {"summary": "Metrics for Prometheus.", "responses": plain}},
        "/openapi.json": {"get": {"summary": "This document.", "responses": anything}},
    }


def _schemas() -> dict[str, Any]:
    """What answers look like."""
    pair = _object({"label": TEXT, "probability": SHARE})
    decision = {"enum": [*Decision.__args__, None]}
    neighbor = _object({"label": TEXT, "filename": TEXT, "distance": NUMBER, "image": _or_null(TEXT)})
    heatmap = _object({"label": TEXT, "exact": FLAG, "image": TEXT})
    answer = _object(
        {"id": TEXT, "filename": _or_null(TEXT), "label": TEXT, "probability": SHARE, "decision": decision,
         "top": _list(pair), "set": _list(TEXT)},
        {"heatmap": heatmap, "neighbors": _list(neighbor)},
    )  # fmt: skip
    refused = _object({"id": TEXT, "filename": _or_null(TEXT), "error": {"$ref": "#/components/schemas/Problem"}})
    state = _object({"task": TEXT, "model": TEXT, "problem": TEXT, "log": TEXT})
    estimate = _object({"value": SHARE, "low": NUMBER, "high": NUMBER})
    test = _object({"n": WHOLE, "accuracy": estimate, "macro_f1": estimate})
    model = _object(
        {"version": TEXT, "champion": FLAG},
        {"model": TEXT, "classes": _list(TEXT), "created": TEXT, "test": _or_null(test), "problem": TEXT},
    )
    return {
        "Answers": _object(
            {"task": TEXT, "model": TEXT, "logged": FLAG, "predictions": _list({"oneOf": [answer, refused]})}
        ),
        "Feedback": _object({"task": TEXT, "id": TEXT, "label": TEXT, "new": FLAG, "repeated": FLAG}),
        "Models": _object({"task": TEXT, "answering": TEXT, "problem": TEXT, "models": _list(model)}),
        "Change": _object({"task": TEXT, "champion": TEXT, "answering": TEXT}),
        "Ready": _object({"status": {"const": "ready"}, "tasks": _list(state)}),
        "Problem": _object({"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT}, {"instance": TEXT}),
    }


def _object(members: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": members | (optional or {}),
        "required": list(members),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    """An array."""
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A value that may be missing."""
    return {"oneOf": [schema, {"type": "null"}]}


def _query(name: str, schema: dict[str, Any], **style: Any) -> dict[str, Any]:
    """A parameter behind the question mark."""
    return {"name": name, "in": "query", "schema": schema, **style}


def _task() -> dict[str, Any]:
    """?task=, needed where several tasks are served."""
    return _query("task", TEXT)


def _responses(good: dict[int, str], *problems: int) -> dict[str, Any]:
    """Responses by status: named schemas, and problem documents."""
    found = {
        str(status): {
            "description": name,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
        }
        for status, name in good.items()
    }
    problem = {"description": "Problem", "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    return found | {str(status): problem for status in problems}
