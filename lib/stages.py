"""The notebooks as stages: what each reads and writes, whether it must run again, and a truthful record."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import registry
from lib.alarms import MONITORING_FILE
from lib.backbones import RESNET50, RESNET50_FILE, torch_cache
from lib.embeddings import cache_dir, cached_hashes
from lib.errors import ArtifactError, LogError, ParameterError
from lib.inference import MODEL_FILE
from lib.labels import reviews_path
from lib.parameters import Parameter, cell_source, read_notebook, read_parameters
from lib.production import read_outcomes
from lib.production.reading import read_counts
from lib.provenance import library_hash, utc_now, versions
from lib.sources import listing_hash
from lib.storage import (
    PROJECT_ROOT,
    backbones_dir,
    is_running,
    project_path,
    read_json,
    read_table,
    reports_dir,
    sha256_file,
    sha256_json,
    task_dir,
    write_json,
)
from lib.tasks import COMPARISON_FILE, CORRECTIONS_FILE, DATASET_FILE, LEARNING_FILE, MANIFEST_FILE, REJECTED_FILE

RECORD_FILE = "pipeline.json"
EXPLORATION_TABLES = ("label_suspects", "duplicates", "near_duplicates", "image_faults")
Values = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A notebook in the pipeline.

    Parameters
    ----------
    name : str
        What the command line calls it.
    file : str
        Its notebook.
    needs : tuple of str
        Stages whose results it reads.
    inputs : callable
        (task, parameter values) -> JSON value that changes with the content of what it reads.
    outputs : callable
        (task, parameter values) -> files that are there once it has succeeded.
    news : callable
        (task, parameter values) -> why it would now decide otherwise on the same inputs, or "".
    by_default : bool
        Whether it runs where no stage is named.
    """

    name: str
    file: str
    needs: tuple[str, ...]
    inputs: Callable[[str, Values], Any]
    outputs: Callable[[str, Values], list[Path]]
    news: Callable[[str, Values], str] = lambda task, values: ""
    by_default: bool = True

    @property
    def notebook(self) -> Path:
        """Path of the notebook."""
        return PROJECT_ROOT / "notebooks" / self.file

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Its parameters, as its notebook defines them."""
        return read_parameters(self.notebook)

    @property
    def title(self) -> str:
        """The notebook's title."""
        return read_notebook(self.notebook)["metadata"].get("title", self.name)

    @property
    def question(self) -> str:
        """The question that the notebook's first cell quotes."""
        first = cell_source(read_notebook(self.notebook)["cells"][0])
        return next((line[1:].strip() for line in first.splitlines() if line.startswith(">")), "")

    def report(self, task: str) -> Path:
        """Path of its HTML report."""
        return reports_dir() / task / f"{self.notebook.stem}.html"


def _embedding_inputs(task: str, values: Values) -> dict:
    weights = project_path(values["weights"]) if values["weights"] else None
    return {
        "data": listing_hash(values["data_dir"]),
        "weights": sha256_file(weights) if weights and weights.is_file() else None,
    }


def _embedding_news(task: str, values: Values) -> str:
    fingerprint = read_json(task_dir(task) / DATASET_FILE)["backbone"]["fingerprint"]
    wanted = set(read_table(task_dir(task) / MANIFEST_FILE)["sha256"])
    if not wanted <= cached_hashes(cache_dir(fingerprint)):
        return "cached vectors are missing or damaged"
    appeared = values["backbone"] == "auto" and (torch_cache() / RESNET50_FILE).is_file()
    used = read_json(task_dir(task) / DATASET_FILE)["backbone"]["name"] if appeared else RESNET50
    return "" if used == RESNET50 else "ResNet50's weights have come into the torch cache"


def _dataset_inputs(task: str, values: Values) -> dict:
    """Images, labels, splits, backbone; not the folder's own name, for a renamed folder holds the same data."""
    facts = read_json(task_dir(task) / DATASET_FILE)
    kept = {name: value for name, value in facts.items() if name not in ("root", "data_dir")}
    return {MANIFEST_FILE: sha256_file(task_dir(task) / MANIFEST_FILE), DATASET_FILE: sha256_json(kept)}


def _exploration_inputs(task: str, values: Values) -> dict:
    return {**_dataset_inputs(task, values), CORRECTIONS_FILE: sha256_file(task_dir(task) / CORRECTIONS_FILE)}


def _evaluation_inputs(task: str, values: Values) -> dict:
    version = registry.find(task, values["version"])
    sums = registry.read_checksums(version.folder)
    return {"version": version.name, "model": sums[registry.MODEL_FILE], **_dataset_inputs(task, values)}


def _retraining_inputs(task: str, values: Values) -> dict:
    """What was said and reviewed so far, and the champion that would be updated."""
    newest, n = read_counts(task, values["log_url"], 0)
    reviews = reviews_path(task)
    return {
        "labels": f"{n}, newest {newest}",
        "reviews.csv": sha256_file(reviews) if reviews.exists() else None,
        "champion": registry.deployment(task)["champion"],
        **_dataset_inputs(task, values),
    }


def _comparison_inputs(task: str, values: Values) -> dict:
    """Both versions and, while an experiment runs, what labels say."""
    pointer = registry.deployment(task)
    names = {name: pointer[name] for name in ("champion", "challenger", "previous", "experiment")}
    outcomes = None
    if pointer["experiment"]:
        found = read_outcomes(task, values["log_url"], pointer["experiment"]["started"])
        outcomes = sha256_json([found.right, found.pairs, {arm: sorted(ids) for arm, ids in found.clients.items()}])
    return {"versions": sha256_json(names), "labels": outcomes, **_dataset_inputs(task, values)}


def _embedding_outputs(task: str, values: Values) -> list[Path]:
    folder = task_dir(task)
    files = [folder / name for name in (MANIFEST_FILE, REJECTED_FILE, CORRECTIONS_FILE, DATASET_FILE)]
    if not files[-1].exists():
        return files
    backbone = read_json(files[-1])["backbone"]
    export = backbones_dir() / backbone["export"] / MODEL_FILE
    return [*files, export, cache_dir(backbone["fingerprint"])]


def _training_outputs(task: str, values: Values) -> list[Path]:
    names = registry.versions(task)
    return [registry.models_dir(task) / (names[-1] if names else "a version") / registry.MODEL_FILE]


def _evaluation_outputs(task: str, values: Values) -> list[Path]:
    return [registry.find(task, values["version"]).folder / registry.PREDICTIONS_FILE]


STAGES = {
    stage.name: stage
    for stage in (
        Stage("embedding", "01_embedding.ipynb", (), _embedding_inputs, _embedding_outputs, _embedding_news),
        Stage(
            "exploration",
            "02_exploration.ipynb",
            ("embedding",),
            _exploration_inputs,
            lambda task, values: [task_dir(task) / f"{name}.csv" for name in EXPLORATION_TABLES],
        ),
        Stage("training", "03_training.ipynb", ("embedding",), _dataset_inputs, _training_outputs),
        Stage("evaluation", "04_evaluation.ipynb", ("training",), _evaluation_inputs, _evaluation_outputs),
        Stage(
            "monitoring",
            "05_monitoring.ipynb",
            ("evaluation",),
            lambda task, values: {"time": utc_now()},  # a look at what has come since is never the same
            lambda task, values: [task_dir(task) / MONITORING_FILE],
            by_default=False,
        ),
        Stage(
            "retraining",
            "06_retraining.ipynb",
            ("evaluation",),
            _retraining_inputs,
            lambda task, values: [task_dir(task) / LEARNING_FILE],
            by_default=False,
        ),
        Stage(
            "comparison",
            "07_comparison.ipynb",
            ("evaluation",),
            _comparison_inputs,
            lambda task, values: [task_dir(task) / COMPARISON_FILE],
            by_default=False,
        ),
    )
}


def notebook_hash(path: Path) -> str:
    """SHA-256 of what a notebook says: kind, text and tags of its cells, not their outputs or numbers."""
    cells = read_notebook(path)["cells"]
    return sha256_json([[cell["cell_type"], cell_source(cell), cell["metadata"].get("tags", [])] for cell in cells])


@dataclass
class Record:
    """pipeline.json of a task: what each stage did last, written before and after each one runs."""

    task: str
    stages: dict[str, dict]

    @classmethod
    def load(cls, task: str) -> "Record":
        """Read the record; a stage that a killed process left "running" is "interrupted"."""
        path = task_dir(task) / RECORD_FILE
        stages = read_json(path)["stages"] if path.exists() else {}
        for entry in stages.values():
            if entry["status"] == "running" and not is_running(entry["pid"]):
                entry["status"] = "interrupted"
        return cls(task, stages)

    def update(self, stage: str, **facts: Any) -> None:
        """Change a stage's entry and write the file."""
        self.stages[stage] = self.stages.get(stage, {}) | facts
        write_json(task_dir(self.task) / RECORD_FILE, {"task": self.task, "stages": self.stages})

    def start(self, stage: str, **facts: Any) -> None:
        """Begin a stage anew, forgetting what it did before."""
        self.stages[stage] = {}
        self.update(stage, status="running", pid=os.getpid(), **facts)

    def key(self, stage: str) -> str | None:
        """Key of a stage's last success; None where the last run did not succeed."""
        entry = self.stages.get(stage, {})
        return entry.get("key") if entry.get("status") == "succeeded" else None


@dataclass(frozen=True)
class Plan:
    """Whether a stage will run, and why."""

    stage: Stage
    values: Values
    parts: dict[str, Any]
    reason: str  # "" where nothing has to be done

    @property
    def key(self) -> str:
        """The stage's key: a hash over everything its result depends on."""
        return sha256_json(self.parts)


def check_needs(selected: Sequence[Stage], task: str, record: Record) -> None:
    """Refuse stages that read what another writes, which has never succeeded and is not among them.

    Raises
    ------
    ParameterError
    """
    names = {stage.name for stage in selected}
    for stage in selected:
        for needed in stage.needs:
            if record.key(needed) is None and needed not in names:
                raise ParameterError(
                    f"Stage {stage.name} reads what {needed} writes, which has not succeeded for task {task!r}; "
                    f"run ./run_pipeline.sh {needed} {stage.name}, with the same options."
                )


def make_plan(stage: Stage, task: str, values: Values, record: Record, *, force: bool, upstream_runs: bool) -> Plan:
    """Decide whether a stage runs.

    Parameters
    ----------
    stage : Stage
    task : str
    values : dict
        All its parameters.
    record : Record
    force : bool
        Run in any case.
    upstream_runs : bool
        A stage it needs will run before it, so what it reads is not known yet.
    """
    parts = {
        "notebook": notebook_hash(stage.notebook),
        "parameters": values,
        "lib": library_hash(),
        "packages": versions(),
    }
    if upstream_runs:
        return Plan(stage, values, parts, f"if {' and '.join(stage.needs)} changes what it reads")
    try:
        parts["inputs"] = stage.inputs(task, values)
    except (ArtifactError, LogError, FileNotFoundError) as error:
        return Plan(stage, values, parts, f"what it reads is missing ({error})")
    return Plan(stage, values, parts, _reason(stage, task, parts, record.stages.get(stage.name, {}), force=force))


def _reason(stage: Stage, task: str, parts: dict, entry: dict, *, force: bool) -> str:
    """Why a stage has to run, or ""."""
    if force:
        return "forced"
    if not entry:
        return "it has not run yet"
    if entry["status"] != "succeeded":
        return f"its last run was {entry['status']}" if entry["status"] != "failed" else "its last run failed"
    before = entry["parts"]
    changed = [name for name, value in parts.items() if name != "inputs" and before.get(name) != value]
    changed += [name for name, value in parts["inputs"].items() if before.get("inputs", {}).get(name) != value]
    if changed:
        return f"changed: {', '.join(changed)}"
    missing = [path for path in (*stage.outputs(task, parts["parameters"]), stage.report(task)) if not path.exists()]
    return f"{missing[0].name} is missing" if missing else stage.news(task, parts["parameters"])
