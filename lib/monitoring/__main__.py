"""The command line: render the monitoring report, once or now and again beside the service, and tell of alarms."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lib.command_line import LOCKED, exit_status, stopped_by_signals
from lib.errors import LockedError, ParameterError, StageError
from lib.log_lines import set_up_logging
from lib.monitoring.reporter import render, watch
from lib.monitoring.webhook import check_url, tell_beside
from lib.monitoring.windows import read_length
from lib.prediction import default_task, tasks
from lib.settings import read_setting

WEBHOOK = "MONITORING_WEBHOOK"  # in the environment, for the URL may hold a secret


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 failed or as bad as --fail-on, 2 bad usage, 3 another at it."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _act(options), (StageError,))


def _parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.monitoring", description=__doc__, epilog="Without --every one report is made now."
    )
    add = parser.add_argument
    add("--task", help="which task (default: the only one; with --every every one)")
    add("--every", metavar="TIME", help="a report now and again, until stopped: 15m, 1h")
    add("--window", default="1d", metavar="LENGTH", help="30m, 6h, 1d, or so many answers: 500 (default: %(default)s)")
    add("--windows", type=int, default=30, metavar="N", help="that are looked at (default: %(default)s)")
    add("--reference", default="data", help="data, or a span of production: 2026-11-01/2026-11-08")
    add("--draws", type=int, default=500, metavar="N", help="windows of each trial, 0 for none (default: %(default)s)")
    add(
        "--fail-on",
        default="never",
        choices=["never", "warning", "alarm"],
        help="exit status 1 in this state or a worse one",
    )
    add("--log-url", default="", help="database of the log (default: LOG_URL, else the task's SQLite file)")
    add("--webhook", default="", metavar="URL",
        help=f"is told of alarms, JSON by POST (default: {WEBHOOK} of the environment)")  # fmt: skip
    return parser


def _act(options: argparse.Namespace) -> None:
    """Do what the options ask for."""
    url, stopped = check_url(options.webhook or read_setting(WEBHOOK)), stopped_by_signals()
    parameters: dict[str, Any] = {
        "window": options.window, "n_windows": options.windows, "reference": options.reference, "draws": options.draws,
        "fail_on": options.fail_on, "log_url": options.log_url,
    }  # fmt: skip
    read_length(options.window)
    if options.every:
        seconds, count = read_length(options.every)
        if count:
            raise ParameterError(f"--every needs a time as 15m or 1h, not {options.every!r}.")
        set_up_logging(as_json=not sys.stderr.isatty())
        watch(lambda: [options.task] if options.task else tasks(), parameters, stopped, seconds, url)
        return
    task = default_task(options.task)
    status = render(task, parameters, stopped)
    if url:
        tell_beside(task, url, stopped).join()
    if status == LOCKED:
        raise LockedError(f"Another run works on task {task!r}; try again later.")
    if status:
        raise StageError(f"the monitoring of {task!r} ended with status {status}.")


if __name__ == "__main__":
    sys.exit(main())
