"""Every route of the service, for the OpenAPI document: what it takes, what it answers."""

from typing import Any

from lib.web import classify, explain, feedback, predict, problems, protocol
from lib.web.schemas import TEXT, WHOLE, object_of

PROBLEM_RESPONSE = {
    "description": "Problem",
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
LABEL = TEXT | {"minLength": 1, "maxLength": feedback.MAX_LABEL, "pattern": feedback.LABEL}
CORRECTION = object_of({"id": TEXT | {"pattern": "^[0-9a-f]{32}$"}, "label": LABEL})


def paths() -> dict[str, Any]:
    """Path -> method -> operation."""
    return {**_answering(), **_models(), **_protocol(), **_operating(), **_pages()}


def _answering() -> dict[str, Any]:
    """/predict and /feedback."""
    file = {"type": "string", "format": "binary"}
    top_k = _query("top_k", WHOLE | {"minimum": 1, "maximum": predict.MAX_TOP_K, "default": predict.DEFAULT_TOP_K})
    log = _query("log", {"enum": ["true", "false"], "default": "true"})
    explained = _query(
        "explain", {"type": "array", "items": {"enum": list(explain.EXPLANATIONS)}}, style="form", explode=False
    )
    images = {"type": "array", "items": file, "minItems": 1, "maxItems": classify.MAX_FILES}
    key = {"name": "Idempotency-Key", "in": "header",
           "schema": TEXT | {"minLength": 1, "maxLength": feedback.MAX_KEY}}  # fmt: skip
    client = {"name": classify.CLIENT_HEADER, "in": "header", "schema": TEXT,
              "description": "Who asks, so that an experiment always answers with the same model."}  # fmt: skip
    return {
        "/predict": {
            "post": {
                "summary": "Classify image files: a form's fields image, or the raw body.",
                "parameters": [_task(), top_k, explained, log, client],
                "requestBody": {
                    "required": True,
                    "content": {
                        "multipart/form-data": {"schema": object_of({classify.FIELD: images})},
                        "application/octet-stream": {"schema": file},
                    },
                },
                "responses": _responses({200: "Answers"}, 400, 401, 403, 404, 413, 415, 422, 429, 503, 504),
            }
        },
        "/feedback": {
            "post": {
                "summary": "Tell the right label of an answered image, by the answer's id or by the image.",
                "parameters": [_task(), key],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": CORRECTION},
                        "multipart/form-data": {"schema": object_of({classify.FIELD: file, "label": LABEL})},
                    },
                },
                "responses": _responses({201: "Feedback", 200: "Feedback"}, 400, 401, 403, 404, 413, 422, 429, 503),
            }
        },
    }


def _models() -> dict[str, Any]:
    """Routes that tell and change what serves."""
    version = {"name": "version", "in": "path", "required": True, "schema": TEXT}
    changed = _responses({200: "Change"}, 400, 401, 403, 404, 409, 429, 503)
    return {
        "/models": {
            "get": {
                "summary": "A task's versions, newest last.",
                "parameters": [_task()],
                "responses": _responses({200: "Models"}, 400, 401, 404, 503),
            }
        },
        "/experiment": {
            "get": {
                "summary": "Champion against challenger, and what labels say so far.",
                "parameters": [_task()],
                "responses": _responses({200: "Experiment"}, 400, 401, 404, 503),
            },
            "put": {
                "summary": "Give a challenger a share of the clients, or let it answer in shadow.",
                "parameters": [_task()],
                "security": [{"token": []}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/WantedExperiment"}}},
                },
                "responses": _responses({200: "Experiment"}, 400, 401, 403, 404, 409, 413, 415, 503),
            },
            "delete": {
                "summary": "Give all traffic to the champion again.",
                "parameters": [_task()],
                "security": [{"token": []}],
                "responses": _responses({200: "Experiment"}, 400, 401, 403, 404, 409, 503),
            },
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


def _protocol() -> dict[str, Any]:
    """The Open Inference Protocol."""
    model, version = ({"name": name, "in": "path", "required": True, "schema": TEXT} for name in ("model", "version"))
    infer = {
        "summary": "Classify the image files of the input image, in JSON or as binary data behind it.",
        "parameters": [{"name": protocol.HEADER_LENGTH, "in": "header", "schema": WHOLE | {"minimum": 0}}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
                "application/octet-stream": {"schema": TEXT | {"format": "binary"}},
            },
        },
        "responses": _told_otherwise({200: "InferenceResponse"}, 400, 401, 403, 404, 413, 415, 422, 429, 503, 504),
    }
    metadata = {"summary": "A task's inputs, outputs and classes.",
                "responses": _told_otherwise({200: "ModelMetadata"}, 401, 404, 503)}  # fmt: skip
    ready = {"summary": "Whether a task answers.", "responses": _told_otherwise({200: "ModelReady"}, 401, 404, 503)}
    routes = {}
    for path, named in (("/v2/models/{model}", [model]), ("/v2/models/{model}/versions/{version}", [model, version])):
        routes[path] = {"parameters": named, "get": metadata}
        routes[f"{path}/ready"] = {"parameters": named, "get": ready}
        routes[f"{path}/infer"] = {"parameters": named, "post": infer}
    return {
        "/v2": {"get": {"summary": "What this server is.", "responses": _told_otherwise({200: "ServerMetadata"}, 401)}},
        "/v2/health/live": {
            "get": {"summary": "Whether the process lives.", "responses": _told_otherwise({200: "ServerHealth"})}
        },
        "/v2/health/ready": {
            "get": {"summary": "Whether every task answers.", "responses": _told_otherwise({200: "ServerHealth"}, 503)}
        },
        **routes,
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
        "/openapi.json": {"get": {"summary": "This document.", "responses": anything | {"401": PROBLEM_RESPONSE}}},
    }


def _pages() -> dict[str, Any]:
    """Pages for people."""
    html = {"text/html": {"schema": TEXT}}
    name = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    asset = {"name": "filename", "in": "path", "required": True, "schema": TEXT}

    def told(good: str, *problems: int, problem: dict = html) -> dict[str, Any]:
        return {"200": {"description": good, "content": html}} | {
            str(status): {"description": "Problem", "content": problem} for status in problems
        }

    images = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = object_of({classify.FIELD: images}, {"explain": TEXT})
    fragment = _query("fragment", TEXT)
    problem = PROBLEM_RESPONSE["content"]
    shown = {"get": {"summary": "The page for people.", "parameters": [_task()],
                     "responses": told("Page", 401, 404, 503)}}  # fmt: skip
    shown["post"] = {
        "summary": "Answer the images of the page's form.",
        "parameters": [_task(), fragment, _query("log", {"enum": ["true", "false"]})],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": told("Page", 400, 401, 403, 404, 413, 415, 422, 429, 503, 504),
    }
    correction = {
        "summary": "Keep the label of the page's form.",
        "parameters": [_task(), fragment],
        "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": CORRECTION}}},
        "responses": told("Page", 400, 401, 403, 404, 413, 422, 429, 503),
    }
    card = {"summary": "The model card.", "parameters": [_task()], "responses": told("Page", 401, 404, 503)}
    reports = told("Report", 401, 404, problem=problem)
    assets = {"200": {"description": "File", "content": {"*/*": {"schema": TEXT}}}} | dict.fromkeys(
        ("401", "404"), PROBLEM_RESPONSE
    )
    return {
        "/": shown,
        "/correction": {"post": correction},
        "/card": {"get": card},
        "/docs": {"get": {"summary": "This document as a page.", "responses": told("Page", 401, problem=problem)}},
        "/reports/": {"get": {"summary": "The index of reports.", "responses": reports}},
        "/reports/{name}": {"get": {"summary": "A report.", "parameters": [name], "responses": reports}},
        "/static/style.css": {"get": {"summary": "The pages' style sheet.", "responses": assets}},
        "/static/{filename}": {"get": {"summary": "Parts of the page.", "parameters": [asset], "responses": assets}},
    }


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
    return found | dict.fromkeys(map(str, problems), PROBLEM_RESPONSE)


def _told_otherwise(good: dict[int, str], *problems: int) -> dict[str, Any]:
    """Responses by status where errors have the form of the Open Inference Protocol."""
    said = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    told = {"description": "Error", "content": said}
    return _responses(good) | {str(status): told for status in problems}
