"""A process beside the service that renders the monitoring report now and again. Killed at any moment, nothing is lost.

It reads the log without locking it; the report of before stays until the new one takes its place.
"""

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from lib.command_line import LOCKED
from lib.heartbeat import beat
from lib.monitoring.webhook import tell_beside
from lib.stages import STAGES
from lib.storage import PROJECT_ROOT, task_dir

KEPT_RUNS = 20  # run folders of monitorings


def render(task: str, parameters: Mapping[str, Any], stopped: threading.Event) -> int:
    """Run the monitoring stage on a task: the exit status of the pipeline, which is ended when `stopped` is set."""
    command = [sys.executable, "-m", "lib.pipeline", "monitoring", "--task", task]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    with subprocess.Popen(command, cwd=PROJECT_ROOT) as process:
        while process.poll() is None:
            if stopped.wait(0.2):
                process.terminate()
                break
    return process.returncode


def forget_runs(task: str, keep: int = KEPT_RUNS) -> None:
    """Delete the run folders of earlier monitorings but the newest `keep`; those of other stages stay."""
    runs, stem = task_dir(task) / "runs", STAGES["monitoring"].notebook.stem
    own = []
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        names = [path.name for path in folder.iterdir()]
        if names and all(name.startswith(stem) for name in names):
            own.append(folder)
    for folder in own[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def watch(
    tasks: Callable[[], list[str]],
    parameters: Mapping[str, Any],
    stopped: threading.Event,
    seconds: float,
    url: str = "",
) -> None:
    """Render every task now and again until `stopped` is set; what fails is said, and does not end it.

    Parameters
    ----------
    tasks : callable
        Names of the tasks.
    parameters : mapping
        Of the notebook.
    stopped : Event
    seconds : float
        From the end of one round to the beginning of the next.
    url : str
        Of a webhook, "" for none.
    """
    while not stopped.is_set():
        beat()
        for task in tasks():
            status = render(task, parameters, stopped)
            if stopped.is_set():
                return
            if status == LOCKED:
                logging.info("Task %s: another run works on it; its report waits for the next round", task)
            elif status:
                logging.warning("Task %s: the monitoring ended with status %d; its report says why", task, status)
            forget_runs(task)
            if url:
                tell_beside(task, url, stopped)
        stopped.wait(seconds)
