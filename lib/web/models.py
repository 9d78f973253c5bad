"""GET /models, and with a token: promote a version, or go back to the champion before."""

from flask import Blueprint

from lib import registry
from lib.errors import ArtifactError, LockedError, ParameterError
from lib.web.auth import token_required
from lib.web.context import asked_task, served_tasks
from lib.web.problems import Problem

blueprint = Blueprint("models", __name__)


@blueprint.get("/models")
def models() -> dict:
    """A task's versions, newest last, with their test scores; which one is the champion, and which one answers."""
    task = asked_task()
    found = [_described(task.name, name, registry.deployment(task.name)) for name in registry.versions(task.name)]
    return {"task": task.name, "answering": task.predictor.version.name, "problem": task.problem, "models": found}


def _described(task: str, name: str, pointer: dict) -> dict:
    """A version as JSON values; a damaged one says so."""
    head = {"version": name, "champion": name == pointer["champion"], "challenger": name == pointer["challenger"]}
    try:
        version = registry.verify(task, name)
        card, scores = version.card, version.metrics.get("test")
        test = {key: scores[key] for key in ("n", "accuracy", "macro_f1")} if scores else None
        facts = {"model": card["model"], "classes": card["classes"], "created": card["provenance"]["created"]}
        facts |= {"lineage": version.lineage}
    except ArtifactError as error:
        return head | {"problem": str(error)}
    except (KeyError, TypeError) as error:
        return head | {"problem": f"Version {name} has a card or metrics that lack {error}."}
    return head | facts | {"test": test}


@blueprint.post("/models/<version>/promote")
@token_required
def promote(version: str) -> dict:
    """Make a version the champion, once it has been loaded and warmed here; else 404 or 409, and the old one stays."""
    task = asked_task()
    try:
        if version not in registry.versions(task.name):
            raise Problem(404, f"Task {task.name!r} has no version {version[:80]!r}; GET /models lists them.")
        served_tasks().load(registry.evaluated(task.name, version))
        registry.promote(task.name, version, by="the API")
    except (ArtifactError, ParameterError, LockedError) as error:
        raise Problem(409, f"Version {version} cannot serve: {error}") from error
    task.follow()
    return {"task": task.name, "champion": version, "answering": task.predictor.version.name}


@blueprint.post("/models/rollback")
@token_required
def rollback() -> dict:
    """Make the last champion before this one that can be loaded the champion again; 409 where there is none."""
    task = asked_task()
    try:
        version = registry.rollback(task.name, served_tasks().load, by="the API")
    except (ArtifactError, LockedError) as error:
        raise Problem(409, str(error)) from error
    task.follow()
    return {"task": task.name, "champion": version, "answering": task.predictor.version.name}
