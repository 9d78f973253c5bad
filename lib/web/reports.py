"""GET /reports/: the reports that the notebooks left, as they lie in reports/."""

from datetime import UTC, datetime
from os.path import isfile
from pathlib import Path
from time import time

from flask import Blueprint, Response
from werkzeug.security import safe_join

from lib.storage import reports_dir
from lib.web.problems import Problem

# A report brings its style and scripts within it; the sandbox keeps them from asking this service anything.
POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; font-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
INDEX = "index.html"
UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}  # seconds

blueprint = Blueprint("reports", __name__, url_prefix="/reports")


@blueprint.get("/")
def index() -> Response:
    """The index of all reports; 404 before there is one."""
    return report(INDEX)


@blueprint.get("/<path:name>")
def report(name: str) -> Response:
    """A report; 404 where there is none of this name."""
    if not name.endswith(".html"):
        raise Problem(404, "Reports are HTML files; /reports/ lists them.")
    if not has_reports():
        raise Problem(404, "There are no reports here; ./run_pipeline.sh writes them.")
    path = safe_join(str(reports_dir()), name)
    if path is None or not isfile(path):
        raise Problem(404, f"There is no report {name[:80]!r}; /reports/ lists them.")
    head, body, rest = Path(path).read_text(encoding="utf-8").partition("<main>")
    response = Response(f"{head}{body}{told_age(Path(path).stat().st_mtime)}{rest}", mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "no-cache"  # it says how old it is
    return response


def told_age(written: float) -> str:
    """How old a report is, as a paragraph; `written` in seconds since 1970."""
    moment, seconds = datetime.fromtimestamp(written, UTC), max(0, int(time() - written))
    name, unit = next((name, unit) for name, unit in UNITS.items() if seconds >= unit or unit == 1)
    number = seconds // unit
    plural = "" if number == 1 else "s"
    said = f"{moment:%Y-%m-%d %H:%M} UTC, {number} {name}{plural} ago"
    return f'<p role="note">Rendered <time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{said}</time>.</p>'


def has_reports() -> bool:
    """Whether there is an index of reports."""
    return (reports_dir() / INDEX).is_file()
