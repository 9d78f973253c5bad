"""A small service that answers `curl` from the artifacts: python serve.py --help."""

import logging
import sys
import threading
import warnings
from collections.abc import Sequence

from flask import Flask
from PIL import Image
from threadpoolctl import threadpool_limits

from lib.admission import Admission
from lib.errors import ProjectError
from lib.inference import n_cores
from lib.log_lines import set_up_logging
from lib.memory import return_large_blocks
from lib.production import ProductionLogs
from lib.quota import Quota
from lib.serving import ServedTasks
from lib.web import auth, browser, docs, experiment, feedback, health, models, openapi, page, predict, protocol, reports
from lib.web.context import attach, served_tasks
from lib.web.failures import FAILURES, Failures, count_failures
from lib.web.forms import read_forms
from lib.web.limits import limit_bodies
from lib.web.logs import log_requests
from lib.web.metrics import State, measure
from lib.web.options import DEADLINE, MAX_INFLIGHT, parser, read_logs
from lib.web.problems import register_problem_handlers
from lib.web.rates import limit_rate
from lib.web.server import Drain, make_server

MAX_BODY = 25_000_000  # bytes of a request that are read as images


def create_app(
    task: str | None = None,
    *,
    max_inflight: int = MAX_INFLIGHT,
    deadline: float = DEADLINE,
    logs: ProductionLogs | None = None,
    hosts: list[str] | None = None,
    rate_limit: int | None = None,
    origins: Sequence[str] = (),
) -> Flask:
    """The service for a task, by default for every one there is; without a model it lives and is not ready.

    Parameters
    ----------
    task : str, optional
    max_inflight : int
        Requests for predictions accepted and not finished; more are sent away with 503.
    deadline : float, seconds
        After which an accepted request is answered 504.
    logs : ProductionLogs, optional
        Keep what is answered, and take feedback.
    hosts : list of str, optional
        Names that it may be called by; any by default.
    rate_limit : int, optional
        Requests for work a minute and address; more are answered 429.
    origins : sequence of str
        Web sites whose pages may ask and read answers.
    """
    app = Flask(__name__, static_folder=None)
    auth.read_tokens(app)
    app.json.sort_keys = False
    app.json.ensure_ascii = False
    tasks, admission = ServedTasks(task), Admission(max_inflight, n_cores(), deadline)
    attach(app, tasks, admission, logs)
    log_requests(app)
    measure(app, State(tasks, admission, logs))
    count_failures(app, Failures(tasks, logs))
    register_problem_handlers(app)
    read_forms(app)
    limit_bodies(app, MAX_BODY)
    browser.harden(app, hosts)
    browser.share_with(app, browser.read_origins(origins))
    auth.refuse_other_sites(app)  # before the quota: another site's page shall not use up its visitor's
    limit_rate(app, Quota(rate_limit) if rate_limit else None)
    auth.require_token(app)  # after it: who guesses tokens is slowed down
    for concern in (page, predict, feedback, models, experiment, reports, protocol, health, openapi, docs):
        app.register_blueprint(concern.blueprint)
    return app


def main() -> int:
    """Serve until SIGTERM or SIGINT; 1 if the port is taken or accepted work was not finished, 2 for bad usage."""
    options = parser().parse_args()
    return_large_blocks()
    threadpool_limits(1, user_api="blas")  # the products are small, and its threads would take the network's cores
    # Pillow warns where a header claims many pixels; such files are refused by our own limit before any is decoded.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # about odd metadata
    wanted = options.log_format
    set_up_logging(as_json=wanted == "json" or (wanted == "auto" and not sys.stderr.isatty()))
    try:
        logs = read_logs(options)
        hosts = browser.trusted_hosts(options.host, options.trusted_host)
        app = create_app(
            options.task,
            max_inflight=options.max_inflight,
            deadline=options.deadline,
            logs=logs,
            hosts=hosts,
            rate_limit=options.rate_limit,
            origins=options.allow_origin,
        )
    except ProjectError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        server = make_server(app, options.host, options.port, options.max_inflight)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"Cannot listen on {options.host}:{options.port}: {reason}; choose another --port.", file=sys.stderr)
        return 1
    with app.app_context():
        drain = Drain(server, app.extensions["admission"])
        drain.install()
        log_state(f"http://{options.host}:{options.port}")
        stopped = threading.Event()
        for tend in (served_tasks().watch, *([logs.tend, app.extensions[FAILURES].keep] if logs else [])):
            threading.Thread(target=tend, args=[stopped], name=tend.__name__, daemon=True).start()
    server.run()
    stopped.set()
    if logs:
        app.extensions[FAILURES].write()
        logs.close()
    return 0 if drain.complete else 1


def log_state(address: str) -> None:
    """Load the models and say what answers, or why it does not yet."""
    try:
        ready = health.readyz()
    except ProjectError as error:
        logging.warning("Listening on %s, not ready: %s", address, error)
        return
    told = ", ".join(f"{state['task']} ({state['model']})" for state in ready["tasks"])
    logging.info("Ready on %s: %s", address, told)


if __name__ == "__main__":
    sys.exit(main())
