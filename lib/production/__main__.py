"""The command line: back up what a task's service was told, while it runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.command_line import exit_status
from lib.errors import LogError
from lib.production.backup import back_up


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 it cannot be done, 2 bad usage."""
    parser = argparse.ArgumentParser(prog="python -m lib.production", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    text = "copy the log as it is now, and the images that the folder does not have yet"
    action = actions.add_parser("backup", help=text, description=text)
    action.add_argument("--task", required=True, help="which task")
    action.add_argument("folder", type=Path, help="where to, laid out as data/production/ is")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _back_up(options.task, options.folder.absolute()), (LogError,))


def _back_up(task: str, folder: Path) -> None:
    """Copy, and say what was copied."""
    has_log, n_files = back_up(task, folder)
    log = "the log" if has_log else "not the log, which is a database with tools of its own,"
    print(f"{folder / task}: {log} and {n_files:,} more files")


if __name__ == "__main__":
    sys.exit(main())
