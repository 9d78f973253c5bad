"""reports/index.html: for each task a headline, its reports, its model versions and the champion's card."""

import base64
import io
import re
from typing import Any

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from lib import registry, summary
from lib.alarms import read_monitoring
from lib.errors import ArtifactError, ProjectError
from lib.parameters import read_notebook
from lib.reports.history import changes, effect
from lib.reports.page import TEMPLATES, shown_stages
from lib.stages import RECORD_FILE, Record, Stage
from lib.storage import artifacts_dir, reports_dir, task_dir, write_text
from lib.stylesheet import stylesheet
from lib.summary import card_lines, interval

HEADLINE_TAG = "headline"
THUMBNAIL_SIZE = (360, 260)


def write_index() -> None:
    """Write the index anew from what lies in artifacts/."""
    names = sorted(path.parent.name for path in artifacts_dir().glob(f"*/{RECORD_FILE}"))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    html = environment.get_template("index.html").render(
        style=stylesheet(), tasks=[_task_or_error(name) for name in names]
    )
    write_text(reports_dir() / "index.html", html)


def _task_or_error(name: str) -> dict[str, Any]:
    """What the index shows of a task, or why it cannot be read: one broken task hides no other."""
    try:
        return _task(name)
    except ProjectError as error:
        return {"name": name, "headline": f"This task cannot be read: {error}", "rows": [], "versions": [], "card": []}


def _task(name: str) -> dict[str, Any]:
    """What the index shows of a task."""
    record = Record.load(name)
    pointer = registry.deployment(name)
    champion = pointer["champion"]
    roles = {pointer["challenger"]: "challenger", champion: "champion"}
    names = registry.versions(name)
    versions = [_version(name, own, before, roles) for own, before in zip(names, [None, *names], strict=False)]
    return {
        "name": name,
        "headline": headline(name),
        "monitoring": _monitoring(name),
        "rows": [_row(stage, name, record.stages.get(stage.name, {})) for stage in shown_stages(name)],
        "versions": versions[::-1],
        "card": _card(name, champion),
    }


def headline(task: str) -> str:
    """The champion and how good it is, or that there is none, in a sentence."""
    champion = registry.deployment(task)["champion"]
    if champion is None:
        return "No model serves yet: none has been evaluated and passed the gate."
    try:
        version = registry.verify(task, champion)
    except ArtifactError as error:
        return str(error)
    return summary.headline(version)


def _monitoring(task: str) -> str:
    """What the last monitoring said, in a sentence; "" before there was one."""
    record = read_monitoring(task)
    if not record:
        return ""
    begun = f" since {record['since']}" if record.get("since") else ""
    moment = record["time"].replace("T", " ").replace("Z", " UTC")
    return f"Monitoring, {moment}: {record['state']}{begun}, {record['text']}. {' '.join(record['causes'])}"


def _row(stage: Stage, task: str, entry: dict) -> dict[str, Any]:
    """A stage's line."""
    report = stage.report(task)
    return {
        "title": stage.title,
        "question": stage.question,
        "href": f"{task}/{report.name}" if report.exists() else "",
        "thumbnail": _thumbnail(stage, task, entry),
        "status": entry.get("status", "not run"),
        "finished": entry.get("finished", ""),
        "seconds": entry.get("seconds", ""),
        "error": entry.get("error", ""),
    }


def _thumbnail(stage: Stage, task: str, entry: dict) -> str:
    """The figure of the cell tagged "headline", small, as a data URL; "" where there is none."""
    path = task_dir(task) / "runs" / entry.get("run", "none") / stage.file
    if not path.exists():
        return ""
    cells = [cell for cell in read_notebook(path)["cells"] if HEADLINE_TAG in cell["metadata"].get("tags", [])]
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    pages = ["".join(output["data"].get("text/html", "")) for output in outputs]
    found = next((match for page in pages if (match := re.search(r"data:image/\w+;base64,([\w+/=]+)", page))), None)
    if found is None:
        return ""
    image = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
    image.thumbnail(THUMBNAIL_SIZE)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _version(task: str, name: str, before: str | None, roles: dict[str | None, str]) -> dict[str, Any]:
    """A version's line in the table, beside the one before it; a damaged one says so."""
    try:
        version = registry.verify(task, name)
        card, test = version.card, version.metrics.get("test")
    except ArtifactError:
        return {"name": name, "role": "damaged"}
    changed, gap = "the first version", ""
    if before is not None:
        try:
            earlier = registry.verify(task, before)
            changed = "; ".join(changes(card, earlier.card)) or "nothing: the same was trained again"
            gap = effect(version, earlier)
        except ArtifactError:
            changed = "the version before it is damaged"
    return {
        "name": name,
        "model": card["model"],
        "backbone": f"{card['backbone']['name']}, {card['backbone'].get('precision', 'fp32')}",
        "accuracy": interval(test["accuracy"]) if test else "not evaluated",
        "macro_f1": interval(test["macro_f1"]) if test else "",
        "n": test["n"] if test else "",
        "changed": changed,
        "effect": gap,
        "role": roles.get(name, ""),
    }


def _card(task: str, champion: str | None) -> list[tuple[str, str]]:
    """The champion's model card as lines."""
    if champion is None:
        return []
    try:
        return card_lines(registry.verify(task, champion).card)
    except ArtifactError:
        return []
