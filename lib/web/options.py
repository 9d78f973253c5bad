"""The options of serve.py's command line."""

import argparse

from lib.production import LOG_URL, ProductionLogs, connect_to
from lib.settings import read_setting

MAX_INFLIGHT = 8
DEADLINE = 30.0  # seconds


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    found = argparse.ArgumentParser(description="Serve predictions of the tasks' champions over HTTP.")
    found.add_argument("--task", help="answer for this task only (default: for all)")
    found.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    found.add_argument(
        "--trusted-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name that it may be called by (default: this machine's own on the loopback, else any)",
    )
    found.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web site whose pages may ask and read answers, such as https://birds.example (default: none)",
    )
    found.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    found.add_argument(
        "--max-inflight",
        type=_positive(int),
        default=MAX_INFLIGHT,
        help="requests at work at once; more are answered 503 (default: %(default)s)",
    )
    found.add_argument(
        "--deadline",
        type=_positive(float),
        default=DEADLINE,
        help="seconds after which a request is answered 504 (default: %(default)s)",
    )
    found.add_argument(
        "--rate-limit",
        type=_positive(int),
        metavar="N",
        help="requests for work a minute and address; more are answered 429 (default: no limit)",
    )
    found.add_argument(
        "--log-format",
        choices=["auto", "json", "text"],
        default="auto",
        help="of the lines on stderr; auto is text on a terminal, else JSON (default: %(default)s)",
    )
    found.add_argument("--no-log", action="store_true", help="keep nothing of what is answered, take no feedback")
    found.add_argument("--no-log-images", action="store_true", help="keep answers, but not the images")
    found.add_argument(
        "--log-url", default="", help="database of the log (default: LOG_URL, else the task's SQLite file)"
    )
    found.add_argument(
        "--keep-days",
        type=_positive(float),
        default=90.0,
        help="days after which answers and images are deleted (default: %(default)g)",
    )
    found.add_argument(
        "--keep-gigabytes",
        type=_positive(float),
        default=10.0,
        help="room that images may take before the oldest are deleted (default: %(default)g)",
    )
    return found


def read_logs(options: argparse.Namespace) -> ProductionLogs | None:
    """The logs that the options ask for; raises ParameterError for a URL that is none."""
    if options.no_log:
        return None
    if url := options.log_url or read_setting(LOG_URL):
        connect_to(url).dispose()
    return ProductionLogs(
        options.log_url,
        keep_images=not options.no_log_images,
        max_days=options.keep_days,
        max_image_bytes=int(options.keep_gigabytes * 1e9),
    )


def _positive(kind: type) -> type:
    """A number above 0, as argparse wants to have it said."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    number.__name__ = f"positive {kind.__name__}"
    return number
