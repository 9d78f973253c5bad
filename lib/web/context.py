"""What a request finds: the tasks that are served, and the door that work comes in by."""

from flask import Flask, current_app, request

from lib.admission import Admission
from lib.serving import ServedTask, ServedTasks
from lib.web.problems import Problem

TASKS, ADMISSION = "served_tasks", "admission"


def attach(app: Flask, tasks: ServedTasks, admission: Admission) -> None:
    """Put both into an app."""
    app.extensions[TASKS], app.extensions[ADMISSION] = tasks, admission


def served_tasks() -> ServedTasks:
    """The tasks of the current app."""
    return current_app.extensions[TASKS]


def asked_task() -> ServedTask:
    """The task that ?task= names, or the only one.

    Raises
    ------
    UnknownTaskError
        If it is not served.
    Problem
        400 where there are several and none is named.
    ArtifactError
        Where there is none.
    """
    name, names = request.args.get("task"), served_tasks().names()
    if name is None and len(names) > 1:
        raise Problem(400, f"Which task? There are {', '.join(names)}; say so with ?task=NAME.")
    return served_tasks().get(name)


def admission() -> Admission:
    """The admission of the current app."""
    return current_app.extensions[ADMISSION]
