"""Probes: is the process alive, and can it answer predictions."""

from flask import Blueprint

from lib.errors import ArtifactError, OverloadedError
from lib.serving import ServedTask
from lib.web.context import admission, production_log, served_tasks

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> dict:
    """200 as long as the process answers at all."""
    return {"status": "alive"}


@blueprint.get("/readyz")
@blueprint.get("/healthz")
def readyz() -> dict:
    """200 with what every task answers with, or 503 with the reason why one cannot answer or the process will end.

    `problem` tells of a task that answers with an older model, for what deployment.json names cannot be loaded; `log`
    whether what is answered is kept, or why not.
    """
    if admission().draining:
        raise OverloadedError("The service is shutting down.")
    tasks = served_tasks().all()
    if not tasks:
        raise ArtifactError("No task has a promoted model yet; ./run_pipeline.sh trains and promotes one.")
    return {"status": "ready", "tasks": [_state(served) for served in tasks]}


def _state(served: ServedTask) -> dict:
    """What a task answers with; raises ArtifactError where nothing."""
    log = production_log(served.name)
    state = {"task": served.name, "model": served.predictor.version.name, "problem": served.problem}
    return state | {"log": (log.problem or "kept") if log else "not kept"}
