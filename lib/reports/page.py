"""One executed notebook -> one self-contained HTML page with navigation and provenance."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.stages import STAGES, Stage
from lib.storage import display_path, project_path, read_json, task_dir, write_text
from lib.stylesheet import stylesheet
from lib.tasks import DATASET_FILE

if TYPE_CHECKING:
    from nbformat import NotebookNode

TEMPLATES = Path(__file__).resolve().parent / "templates"


def publish(stage: Stage, task: str, folder: Path, entry: dict) -> Path:
    """Render a stage's executed notebook, or the unexecuted one if it never began, to its report.

    Parameters
    ----------
    stage : Stage
    task : str
    folder : Path
        The run's folder, with the executed notebook and its facts.
    entry : dict
        The stage's entry in pipeline.json.

    Returns
    -------
    Path
        The page; it replaces the one of an earlier run.
    """
    import nbformat  # here, as in `render`: a run with nothing to do publishes nothing

    executed = folder / stage.file
    notebook = nbformat.read(executed if executed.exists() else stage.notebook, as_version=4)
    facts = read_json(folder / f"{stage.notebook.stem}.json")
    path = stage.report(task)
    write_text(path, render(notebook, page_facts(stage, task, entry, facts["provenance"])))
    return path


def render(notebook: "NotebookNode", report: dict[str, Any]) -> str:
    """A notebook and the facts around it as HTML."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(extra_template_basedirs=[str(TEMPLATES)], template_name="notebook")
    exporter.language_code = "en"
    exporter.exclude_anchor_links = True
    html, _ = exporter.from_notebook_node(without_progress(notebook), resources={"report": report})
    return html


def without_progress(notebook: "NotebookNode") -> "NotebookNode":
    """The notebook with only the last state of each progress bar, and without home folders in its text."""
    home = str(Path.home())
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                lines = output.text.split("\n")
                output.text = "\n".join(re.split(r"\r+", line.rstrip("\r"))[-1] for line in lines).strip("\n")
                output.text = output.text.replace(home, "~") if len(home) > 1 else output.text
            elif output.output_type == "error" and len(home) > 1:
                output.traceback = [line.replace(home, "~") for line in output.traceback]
    return notebook


def page_facts(stage: Stage, task: str, entry: dict, provenance: dict) -> dict[str, Any]:
    """What the template shows around a notebook."""
    commit = provenance["commit"]
    facts = [
        ("task", task),
        ("commit", commit.removesuffix("-dirty") + (" with uncommitted changes" if commit.endswith("-dirty") else "")),
        *_data_facts(task),
        ("seed", entry["parameters"].get("seed", "none")),
        ("device", provenance["device"]),
        ("run", f"{entry['run']}, {entry['seconds']} s, {entry['status']}"),
    ]
    return {
        "style": stylesheet(),
        "status": entry["status"],
        "error": entry["error"],
        "navigation": [
            {"title": other.title, "href": other.report(task).name, "current": other is stage}
            for other in shown_stages(task, stage)
        ],
        "facts": facts,
        "parameters": [(name, _shown(value)) for name, value in entry["parameters"].items()],
        "versions": list(provenance["versions"].items()),
    }


def shown_stages(task: str, current: Stage | None = None) -> list[Stage]:
    """Those that make a model of the data, and of the others those that have a report, or are about to."""
    return [stage for stage in STAGES.values() if stage.by_default or stage is current or stage.report(task).exists()]


def _data_facts(task: str) -> list[tuple[str, str]]:
    """Data set and backbone, once stage 01 has told them."""
    path = task_dir(task) / DATASET_FILE
    if not path.exists():
        return []
    dataset = read_json(path)
    n, n_rejected = sum(dataset["n"].values()), dataset["n_rejected"]
    refused = f"{n_rejected or 'no'} file{'s' * (n_rejected > 1)} refused"
    return [
        ("data", f"{_shown(dataset['data_dir'])}: {n:,} images in {len(dataset['classes'])} classes, "
                 f"{refused}, SHA-256 {dataset['data_hash'][:12]}"),
        ("backbone", f"{dataset['backbone']['name']} ({dataset['backbone']['reason']}); "
                     f"weights SHA-256 {dataset['backbone']['weights_sha256'][:12]}"),
        ("precision", dataset["backbone"].get("precision_reason", "fp32")),
    ]  # fmt: skip


def _shown(value: Any) -> str:
    """A parameter as text; paths without the home folder."""
    if isinstance(value, str) and value.startswith("/"):
        return display_path(project_path(value))
    return str(value)
