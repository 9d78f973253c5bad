"""GET /docs: the OpenAPI document as a plain page, with lines for curl."""

from typing import Any

from flask import Blueprint, Response, current_app, render_template, request

from lib.web.limits import MAX_BODY
from lib.web.openapi import document
from lib.web.page import allow_own_parts

EXAMPLES = (
    ("What is it?", "curl -F image=@photo.jpg '{address}/predict?top_k=3'"),
    ("Many at once", "curl -F image=@first.jpg -F image=@second.png {address}/predict"),
    ("Why?", "curl --data-binary @photo.jpg '{address}/predict?explain=heatmap,neighbors'"),
    ("It is something else", "curl -F image=@photo.jpg -F label=Clutch {address}/feedback"),
)

blueprint = Blueprint("docs", __name__, template_folder="templates")


@blueprint.get("/docs")
def docs() -> Response:
    """The page."""
    told, address = document(current_app.config[MAX_BODY]), request.host_url.rstrip("/")
    html = render_template(
        "docs.html",
        document=told,
        routes=routes(told),
        examples=[(title, line.format(address=address)) for title, line in EXAMPLES],
    )
    return allow_own_parts(current_app.response_class(html, mimetype="text/html"))


def routes(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Every route of an OpenAPI document, as the page shows it."""
    return [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation["summary"],
            "parameters": [
                parameter | {"told": parameter_told(parameter)}
                for parameter in [*item.get("parameters", ()), *operation.get("parameters", ())]
            ],
            "bodies": list(operation.get("requestBody", {}).get("content", ())),
            "responses": {
                status: f"{said['description']} ({', '.join(said['content'])})"
                for status, said in operation["responses"].items()
            },
            "token": "security" in operation,
        }
        for path, item in told["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def parameter_told(parameter: dict[str, Any]) -> str:
    """What a parameter may be."""
    schema = parameter["schema"]
    choices = schema.get("enum") or schema.get("items", {}).get("enum")
    kind = " or ".join(choices) if choices else schema["type"]
    bounds = [f"{word} {schema[key]:,}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = [f"default {schema['default']}"] if "default" in schema else []
    return ", ".join([" ".join([kind, *bounds]), *default])
