"""GET /reports/: the reports that the notebooks left, as they lie in reports/."""

from flask import Blueprint, Response, send_from_directory

from lib.storage import reports_dir
from lib.web.problems import Problem

# A report brings its style and scripts within it; the sandbox keeps them from asking this service anything.
POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; font-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
INDEX = "index.html"

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
    response = send_from_directory(reports_dir(), name)
    response.headers["Content-Security-Policy"] = POLICY
    return response


def has_reports() -> bool:
    """Whether there is an index of reports."""
    return (reports_dir() / INDEX).is_file()
