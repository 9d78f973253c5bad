"""A small service that answers `curl` from the artifacts: python serve.py --help."""

import argparse
import logging
import signal
import sys
import warnings

import waitress
from flask import Flask
from PIL import Image

from lib.errors import ProjectError
from lib.web import health, predict
from lib.web.model import attach
from lib.web.problems import register_problem_handlers

MAX_BODY = 25_000_000  # bytes of a request that are read as images
MAX_RECEIVED = 64_000_000  # bytes after which the server hangs up without a problem document
THREADS = 8


def create_app(task: str | None = None) -> Flask:
    """The service for a task, by default the only one there is; without a model it lives and is not ready."""
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, MAX_FORM_PARTS=1000, MAX_FORM_MEMORY_SIZE=500_000)
    app.json.sort_keys = False
    app.json.ensure_ascii = False
    attach(app, task)
    register_problem_handlers(app)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(predict.blueprint)
    return app


def main() -> int:
    """Serve until SIGTERM or SIGINT; 1 if the port is taken."""
    parser = argparse.ArgumentParser(description="Serve predictions of a task's champion over HTTP.")
    parser.add_argument("--task", help="which task (default: the only one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    options = parser.parse_args()
    # Pillow warns where a header claims many pixels; such files are refused by our own limit before any is decoded.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = create_app(options.task)
    try:
        server = waitress.create_server(
            app,
            host=options.host,
            port=options.port,
            threads=THREADS,
            ident=None,
            connection_limit=1000,
            channel_timeout=30,
            cleanup_interval=5,
            recv_bytes=65536,
            max_request_body_size=MAX_RECEIVED,
        )
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"Cannot listen on {options.host}:{options.port}: {reason}; choose another --port.", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    log_state(app, f"http://{options.host}:{options.port}")
    server.run()
    return 0


def log_state(app: Flask, address: str) -> None:
    """Load the model and say where it answers, or why it does not yet."""
    with app.app_context():
        try:
            ready = health.readyz()
        except ProjectError as error:
            logging.warning("Listening on %s, not ready: %s", address, error)
            return
    logging.info("Task %s, model %s, ready on %s", ready["task"], ready["model"], address)


if __name__ == "__main__":
    sys.exit(main())
