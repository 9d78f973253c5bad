"""What a request finds: the tasks that are served, the door that work comes in by, and the log it is kept in."""

from flask import Flask, current_app, request

from lib.admission import Admission
from lib.production import ProductionLog, ProductionLogs
from lib.serving import ServedTask, ServedTasks
from lib.web.problems import Problem

TASKS, ADMISSION, LOGS = "served_tasks", "admission", "production_logs"


def attach(app: Flask, tasks: ServedTasks, admission: Admission, logs: ProductionLogs | None) -> None:
    """Put them into an app; without logs nothing is kept."""
    app.extensions[TASKS], app.extensions[ADMISSION], app.extensions[LOGS] = tasks, admission, logs


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


def production_log(task: str) -> ProductionLog | None:
    """The open log of a task; None where nothing is kept."""
    logs = current_app.extensions[LOGS]
    return logs and logs.get(task)


def admission() -> Admission:
    """The admission of the current app."""
    return current_app.extensions[ADMISSION]
