"""GET /experiment: champion against challenger, and what labels say so far; with a token PUT and DELETE change it."""

from dataclasses import asdict
from typing import Any

from flask import Blueprint

from lib import experiments, registry
from lib.errors import ArtifactError, LockedError, LogError, ParameterError
from lib.serving import ServedTask
from lib.web.auth import token_required
from lib.web.bodies import read_json
from lib.web.context import asked_task, production_log, served_tasks
from lib.web.problems import Problem

MEMBERS = {"challenger": str, "mode": str, "share": float, "days": float, "effect": float}

blueprint = Blueprint("experiment", __name__)


@blueprint.get("/experiment")
def experiment() -> dict:
    """The experiment that runs, null if none, and its verdict: null where nothing is logged."""
    return told(asked_task())


@blueprint.put("/experiment")
@token_required
def begin() -> dict:
    """Give a challenger a share of the clients, or let it answer in shadow; 409 where it cannot serve.

    JSON: `challenger` (by default the version that waits), `mode` (split or shadow), `share`, `days`, `effect`.
    """
    task, wanted = asked_task(), read_wanted()
    challenger = wanted.pop("challenger", None) or registry.deployment(task.name)["challenger"]
    if challenger is None:
        raise Problem(400, "No version waits as challenger; name one in `challenger`, GET /models lists them.")
    try:
        if challenger not in registry.versions(task.name):
            raise Problem(404, f"Task {task.name!r} has no version {challenger[:80]!r}; GET /models lists them.")
        served_tasks().load(registry.evaluated(task.name, challenger))
        experiments.start(task.name, challenger, by="the API", **wanted)
    except ParameterError as error:
        raise Problem(400, str(error)) from error
    except (ArtifactError, LockedError) as error:
        raise Problem(409, f"Version {challenger} cannot take part: {error}") from error
    task.follow()
    return told(task)


@blueprint.delete("/experiment")
@token_required
def end() -> dict:
    """Give all traffic to the champion again; the challenger waits."""
    task = asked_task()
    try:
        registry.end_experiment(task.name, by="the API")
    except (ArtifactError, LockedError) as error:
        raise Problem(409, str(error)) from error
    task.follow()
    return told(task)


def told(task: ServedTask) -> dict[str, Any]:
    """What runs, and what is known of it."""
    running, log = experiments.running(task.name), production_log(task.name)
    if running is None:
        return {"task": task.name, "experiment": None, "verdict": None}
    verdict = None
    try:
        if log:
            log.counts()  # makes the tables, where nothing has been kept yet
            verdict = experiments.verdict(task.name, running, log.url).to_json()
    except LogError as error:
        raise Problem(503, str(error), {"Retry-After": "5"}) from error
    return {"task": task.name, "experiment": asdict(running), "verdict": verdict}


def read_wanted() -> dict[str, Any]:
    """The members of the JSON body.

    Raises
    ------
    Problem
        400 where it is no object of these members, 413 where it is long.
    """
    body = read_json()
    if not isinstance(body, dict) or not set(body) <= set(MEMBERS):
        raise Problem(400, f"An experiment is a JSON object with members of {', '.join(MEMBERS)}.")
    for name, value in body.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
        if not (is_number if MEMBERS[name] is float else isinstance(value, str)):
            kind = "a number" if MEMBERS[name] is float else "a text"
            raise Problem(400, f"`{name}` must be {kind}.")
    return body
