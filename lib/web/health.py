"""Probes: is the process alive, and can it answer predictions."""

from flask import Blueprint

from lib.web.model import served_model

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> dict:
    """200 as long as the process answers at all."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def readyz() -> dict:
    """200 with the served version, or 503 with the reason why there is none."""
    predictor = served_model().predictor()
    return {"status": "ready", "task": served_model().task, "model": predictor.version.name}
