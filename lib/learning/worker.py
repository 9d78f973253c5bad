"""A process beside the service that makes updates when they are due. Killed at any moment, nothing is lost.

The log and reviews.csv say what was said, the registry what was made; what is remembered here only keeps it from being
made twice.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from lib import registry
from lib.alarms import is_alarmed
from lib.errors import ArtifactError, ChangedError, DataError, LockedError, ProjectError, StageError
from lib.experiments import conclude, running
from lib.gate import Margins
from lib.heartbeat import beat
from lib.labels import BELIEVED, QUARANTINED, read_reviews
from lib.learning.material import Material, Sources, gather
from lib.learning.triggers import Triggers, due
from lib.learning.update import Outcome, make_update
from lib.production import ImageStore
from lib.production.reading import read_counts
from lib.provenance import utc_now
from lib.storage import PROJECT_ROOT, lock, production_dir, read_json, reports_dir, task_dir, write_csv, write_json
from lib.tasks import LEARNING_FILE

PIPELINE_LOCK = ".lock"
KEPT = 50  # updates that are remembered


@dataclass(frozen=True)
class Settings:
    """How a task learns.

    Parameters
    ----------
    sources : Sources
    method : {"exact", "instant"}
    approval : bool
        Whether an update that passes the gate waits for a person.
    keep : int
        Newest versions that are kept.
    triggers : Triggers
    margins : Margins
    """

    sources: Sources = field(default_factory=Sources)
    method: str = "exact"
    approval: bool = True
    keep: int = 20
    triggers: Triggers = field(default_factory=Triggers)
    margins: Margins = field(default_factory=Margins)


def state_path(task: str) -> Path:
    """artifacts/<task>/learning.json."""
    return task_dir(task) / LEARNING_FILE


def read_state(task: str) -> dict[str, Any]:
    """What the last update knew, and the updates so far; {} before there was one."""
    return read_json(state_path(task)) if state_path(task).exists() else {}


def step(task: str, settings: Settings, *, asked: bool = False, clock: Callable[[], float] = time) -> Outcome | None:
    """Make an update if one is due, or asked for; None where there is nothing to do.

    Raises
    ------
    LockedError
        If the pipeline or another worker is at the task.
    ArtifactError, DataError, LogError
        If there is nothing to learn from, or it cannot be read, or an experiment runs and an update was asked for.
    """
    if running(task):
        if asked:
            raise ArtifactError(f"An experiment of task {task!r} runs; end it first, for it compares two fixed models.")
        return None
    with lock(task_dir(task) / PIPELINE_LOCK):
        state = read_state(task)
        if not asked and not is_news(task, settings, state):
            return None
        material = gather(task, settings.sources)
        list_quarantined(task, material)
        why = "asked for" if asked else due(material, state, settings.triggers, clock(), alarm=is_alarmed(task))
        if not why:
            return None
        try:
            outcome = make_update(task, material, settings.method, margins=settings.margins, why=why)
        except DataError:
            remember(task, state, material, None, "failed", clock())  # not again before something else is said
            raise
        remember(task, state, material, outcome, decide(task, outcome, settings), clock())
        registry.prune(task, settings.keep)
        return outcome


def decide(task: str, outcome: Outcome, settings: Settings) -> str:
    """Promote an update that passed, let it wait, or leave it: "promoted", "challenger", "refused" or "left: why"."""
    name, lineage = outcome.version.name, outcome.version.lineage
    if not outcome.gate.passed:
        return "refused"
    # The gate held it against this champion only; an experiment that began meanwhile compares two fixed models.
    expected = {"champion": lineage["parent"], "experiment": None}
    try:
        if settings.approval:
            registry.challenge(task, name, by="lib.learning", why=lineage["why"], expected=expected)
            return "challenger"
        registry.promote(task, name, by="lib.learning", why=f"{lineage['why']}; it passed the gate", expected=expected)
        return "promoted"
    except ArtifactError as error:
        return f"left: {error}"


def is_news(task: str, settings: Settings, state: dict) -> bool:
    """Whether enough has been said or decided since the last update that a closer look is worth its cost."""
    newest, n_since = read_counts(task, settings.sources.url, state.get("number", 0))
    changed = read_reviews(task) != state.get("reviews", {}) or newest < state.get("number", 0)
    return changed or n_since >= min(settings.triggers.least_labels, settings.sources.new_class_images)


def remember(task: str, state: dict, material: Material, outcome: Outcome | None, result: str, now: float) -> None:
    """Write what an update knew, or one that could not be made, so that the next one waits for more."""
    entry = {"time": utc_now(), "result": result}
    if outcome:
        entry |= {
            "version": outcome.version.name,
            "why": outcome.version.lineage["why"],
            "seconds": round(outcome.seconds, 3),
            "rules_broken": [row["rule"] for row in outcome.gate.to_json() if not row["passed"]],
        }
    newest = int(material.given["number"].max()) if len(material.given) else 0
    updates = [*state.get("updates", []), entry][-KEPT:]
    write_json(state_path(task), {"time": now, "number": newest, "reviews": dict(material.reviews), "updates": updates})


def list_quarantined(task: str, material: Material) -> Path:
    """Write the labels that a person should look at to reports/<task>/quarantine.csv."""
    doubtful = material.audited[material.audited["state"] != BELIEVED]
    path = reports_dir() / task / "quarantine.csv"
    columns = ["sha256", "label", "answered", "probability", "state", "reason", "n_labels", "prediction"]
    write_csv(path, columns, doubtful[columns].itertuples(index=False, name=None))
    return path


def watch(tasks: Callable[[], list[str]], settings: Settings, stopped: threading.Event, seconds: float) -> None:
    """Look at every task now and again until `stopped` is set; what is wrong with one is said, and does not end it."""
    told: dict[str, str] = {}
    logging.info("Looking for new labels every %g seconds", seconds)
    while not stopped.is_set():
        beat()
        for task in tasks():
            try:
                conclude_experiment(task, settings)
                outcome = step(task, settings)
                told.pop(task, None)
                if outcome:
                    logging.info("Task %s: %s", task, in_words(task, outcome))
            except LockedError:
                continue  # the pipeline works on it; later
            except ChangedError as error:
                _begin_anew(task, settings, error, told)
            except ProjectError as error:
                if told.get(task) != str(error):
                    logging.warning("Task %s: %s", task, error)
                told[task] = str(error)
            except Exception:  # a fault in one task must not end the others' learning
                logging.exception("Task %s: the update failed", task)
        stopped.wait(seconds)


def _begin_anew(task: str, settings: Settings, error: ChangedError, told: dict[str, str]) -> None:
    """Train from scratch what cannot be brought up to date, where nobody has to approve; else say once."""
    if told.get(task) == str(error):
        return
    logging.warning("Task %s: %s", task, error)
    told[task] = str(error)
    if not settings.approval:
        try:
            retrain(task, settings)
        except ProjectError as failed:
            logging.warning("Task %s: %s", task, failed)


def conclude_experiment(task: str, settings: Settings) -> None:
    """End an experiment that is over, by labels that are believed, and say so."""
    doubted: set[str] = set()
    if not settings.approval and running(task):
        audited = gather(task, settings.sources).audited
        doubted = set(audited.loc[audited["state"] == QUARANTINED, "sha256"])
    if done := conclude(task, settings.sources.url, approval=settings.approval, doubted=doubted):
        logging.info("Task %s: %s", task, done)


def in_words(task: str, outcome: Outcome) -> str:
    """What came of an update, in a sentence or two."""
    pointer, name = registry.deployment(task), outcome.version.name
    if name == pointer["champion"]:
        result = "serves now"
    elif name == pointer["challenger"]:
        result = f"passed the gate and waits; approve it with python -m lib.registry promote --task {task} {name}"
    else:
        broken = "; ".join(f"{row.rule} ({row.value})" for row in outcome.gate.table.itertuples() if not row.passed)
        result = f"was refused: {broken}" if broken else "passed the gate"
    return f"update {name} ({outcome.version.lineage['why']}) {result}."


def retrain(task: str, settings: Settings) -> None:
    """Run the whole pipeline on the task's images and those of production; its own gate decides what serves.

    Raises
    ------
    StageError
        If it failed; its report says why.
    """
    with lock(task_dir(task) / PIPELINE_LOCK):
        material = gather(task, settings.sources, anew=True)
        manifest = write_merged(task, material)
    command = [sys.executable, "-m", "lib.pipeline", "--task", task, "-p", "data_dir", str(manifest)]
    if subprocess.run(command, cwd=PROJECT_ROOT, check=False).returncode:
        raise StageError(f"The retraining of {task!r} failed; reports/index.html has the red cell.")


def write_merged(task: str, material: Material) -> Path:
    """Write data/production/<task>/merged.csv: the task's images in their parts, and those of production that are kept.

    What is held back joins the test part, the rest the training part.
    """
    parts = (material.train, material.val, material.test)
    rows = [
        (str(part.root / row.path), row.label, row.split, row.group)
        for part in parts
        for row in part.manifest.itertuples()
    ]
    path, images = production_dir(task) / "merged.csv", ImageStore.of(task)
    rows += [
        (str(images.path(row.sha256)), row.label, "test" if row.held_back else "train", "")
        for row in material.additions.itertuples()
        if images.path(row.sha256).exists()
    ]
    write_csv(path, ["image", "label", "split", "group"], rows)
    return path
