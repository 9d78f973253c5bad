"""The page at /: show images, see what they are taken for and why, and say what is right.

Everything works as plain forms; the script in static/page.js sends the same forms and puts the answers into the page
(`?fragment=1` leaves out what is around them).
"""

from typing import Any

from flask import Blueprint, Response, current_app, render_template, request, url_for

from lib import summary
from lib.images import FORMATS, data_url, png, thumbnail
from lib.production import ProductionLog
from lib.serving import ServedTask
from lib.stylesheet import stylesheet
from lib.web import problems, words
from lib.web.classify import FIELD, MAX_FILES, Answer, asked_arm, classify, keep, read_uploads
from lib.web.context import admission, asked_task, production_log, served_tasks
from lib.web.explain import EXPLANATIONS, MAX_EXPLAINED
from lib.web.feedback import MAX_LABEL, give
from lib.web.limits import MAX_BODY
from lib.web.predict import DEFAULT_TOP_K, read_log
from lib.web.problems import Problem, document
from lib.web.reports import has_reports

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PREVIEW = 320  # pixels, longer side

blueprint = Blueprint("page", __name__, template_folder="templates", static_folder="static")
for path in ("/", "/correction", "/card"):
    blueprint.record(lambda state, path=path: problems.use_form(state.app, path, problem_page))


@blueprint.after_request
def allow_own_parts(response: Response) -> Response:
    """Let the browser load the page's own style, script and pictures, and nothing else."""
    response.headers["Content-Security-Policy"] = POLICY
    return response


@blueprint.app_context_processor
def navigation() -> dict[str, str]:
    """Where the reports are, for every page."""
    return {"reports": url_for("reports.index") if has_reports() else ""}


@blueprint.get("/")
def page() -> str:
    """The page, with nothing answered yet."""
    return rendered("page.html", asked_or_first(), answers=[])


@blueprint.post("/")
def answer() -> str:
    """What the images of the form are taken for; with the field `explain`, why."""
    with admission().accepted() as work:
        task = asked_task()
        arm = asked_arm(task)
        explained = EXPLANATIONS if request.values.get("explain") else ()
        if arm.predictor.reference is None:
            explained = [name for name in explained if name != "neighbors"]
        uploads = read_uploads(MAX_EXPLAINED if explained else MAX_FILES)
        log = production_log(task.name) if read_log() else None
        answers = classify(arm, task.name, uploads, work, log, explained)
        logged = keep(log, arm, task.name, answers)
        with work.slot():  # for the previews
            told = [described(answer, logged) for answer in answers]
    return rendered("answers.html" if is_fragment() else "page.html", task, answers=told)


@blueprint.post("/correction")
def correction() -> str:
    """Keep the label that somebody gave by a form."""
    task, given = give()
    return rendered("noted.html" if is_fragment() else "noted_page.html", task, given=given)


@blueprint.get("/card")
def card() -> str:
    """What there is to know of the model that answers."""
    task = asked_or_first()
    version = task.predictor.version
    return rendered("card.html", task, version=version, lines=summary.card_lines(version.card), percent=words.percent)


@blueprint.get("/static/style.css")
def style() -> Response:
    """The style sheet that the reports have too."""
    return current_app.response_class(stylesheet(), mimetype="text/css")


def asked_or_first() -> ServedTask:
    """The task that ?task= names, or else the first."""
    names = served_tasks().names()
    return asked_task() if request.args.get("task") or not names else served_tasks().get(names[0])


def is_fragment() -> bool:
    """Whether only what is new is asked for, to be put into a page."""
    return "fragment" in request.args


def rendered(template: str, task: ServedTask, **values: Any) -> str:
    """A page of a task."""
    return render_template(template, **surroundings(task), **values)


def surroundings(task: ServedTask) -> dict[str, Any]:
    """What every page shows: the task and its model, the others, and where the reports are."""
    return {
        "task": task.name,
        "tasks": served_tasks().names(),
        "classes": task.predictor.classes,
        "headline": headline_of(task),
        "privacy": privacy(production_log(task.name)),
        "formats": FORMATS,
        "megabytes": current_app.config[MAX_BODY] // 1_000_000,
        "max_label": MAX_LABEL,
        "field": FIELD,
    }


def headline_of(task: ServedTask) -> str:
    """How good the model is; "" for one that was never evaluated."""
    version = task.predictor.version
    return summary.headline(version) if "test" in version.metrics else ""


def privacy(log: ProductionLog | None) -> str:
    """What becomes of an image that is sent."""
    if log is None:
        return "Your images are looked at and forgotten: this service keeps nothing."
    what = "Your images and their answers are" if log.keep_images else "The answers, but not your images, are"
    return f"{what} kept by this service, for {log.max_days:g} days at most, and go nowhere else."


def described(answer: Answer, logged: bool) -> dict[str, Any]:
    """One file's part of the page."""
    head = {"name": answer.upload.filename or "image", "id": answer.id}
    if answer.refused:
        return head | {"problem": f"The image was refused: {answer.result}."}
    result = answer.result
    top = list(zip(result.labels, result.probabilities, strict=True))[:DEFAULT_TOP_K]
    return head | {
        "preview": data_url(png(thumbnail(answer.upload.data, PREVIEW)), "png"),
        "decision": result.decision or "",
        "sentence": words.sentence(result),
        "comment": words.comment(result),
        "bars": [
            {"label": label, "width": round(100 * share, 1), "percent": words.percent(share)} for label, share in top
        ],
        "logged": logged,
        **answer.explanations,
    }


def problem_page(problem: Problem) -> Response:
    """A problem as a page, or as the part of one that was asked for; it tells nothing of the models."""
    told = document(problem.status, problem.detail)
    template = "problem.html" if is_fragment() else "problem_page.html"
    return allow_own_parts(Response(render_template(template, problem=told), mimetype="text/html"))
