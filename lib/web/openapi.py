"""GET /openapi.json: what the service answers, for people's tools and for tests (OpenAPI 3.1)."""

from typing import Any

from flask import Blueprint, current_app

import lib
from lib.web.limits import MAX_BODY
from lib.web.paths import paths
from lib.web.schemas import schemas

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
            "version": lib.__version__,
            "description": (
                "Errors are problem documents (RFC 9457), but under /v2, where they are {error}, and on pages. "
                f"Bodies have at most {max_body:,} bytes. Where a token for asking is set, all but probes needs it, "
                "as bearer token or as password."
            ),
        },
        "paths": paths(),
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
