"""The command line: learn from what people said, once or beside the service; look at doubtful labels."""

import argparse
import sys
from collections.abc import Sequence

from lib.command_line import exit_status, stopped_by_signals
from lib.errors import ArtifactError, DataError, LogError, ParameterError, StageError
from lib.incremental import METHODS
from lib.labels import REVIEWS_FILE, Rules, read_reviews, reviews_path, write_reviews
from lib.learning.material import Sources, gather
from lib.learning.triggers import Triggers
from lib.learning.worker import Settings, in_words, list_quarantined, retrain, step, watch
from lib.log_lines import set_up_logging
from lib.prediction import default_task, tasks
from lib.storage import display_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 it cannot be done, 2 bad usage, 3 another process is at it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    judges = options.reject or options.accept is not None
    if judges != bool(options.images):
        parser.error("--accept LABEL and --reject need the SHA-256 of images, and nothing else takes them.")
    return exit_status(lambda: _act(options), (ArtifactError, DataError, LogError, StageError))


def _parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.learning", description=__doc__, epilog="Without an action an update is made now."
    )
    add = parser.add_argument
    add("--task", help="which task (default: the only one; with --watch every one)")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--watch", action="store_true", help="update when it is due, until stopped")
    actions.add_argument(
        "--retrain", action="store_true", help="run the pipeline on the task's and production's images"
    )
    actions.add_argument("--quarantine", action="store_true", help="list labels that teach nothing until reviewed")
    actions.add_argument("--accept", metavar="LABEL", help=f"believe this label of images; {REVIEWS_FILE} keeps it")
    actions.add_argument("--reject", action="store_true", help="believe no label of images")
    add(
        "images",
        nargs="*",
        metavar="SHA256",
        help="images to accept or reject, by the first digits that --quarantine lists",
    )
    add("--method", choices=METHODS, default="exact", help="how to fit (default: %(default)s)")
    add("--no-approval", action="store_true", help="let what passes the gate serve, without waiting for a person")
    add("--every", type=float, default=60.0, metavar="SECONDS", help="between looks (default: %(default)g)")
    add("--labels", type=int, default=50, metavar="N", help="new labels that set an update off (default: %(default)s)")
    add(
        "--least-labels", type=int, default=10, metavar="N", help="fewer do only for a new class (default: %(default)s)"
    )
    add("--cooldown", type=float, default=3600.0, metavar="SECONDS", help="between updates (default: %(default)g)")
    add("--new-class-images", type=int, default=5, metavar="N", help="that a new label needs (default: %(default)s)")
    add("--held-back", type=float, default=0.2, metavar="SHARE", help="that only judges (default: %(default)g)")
    add("--confidence", type=float, default=0.99, help="an answer this sure outweighs a label (default: %(default)g)")
    add("--flood", type=int, default=100, metavar="N", help="labels an hour of a client (default: %(default)s)")
    add("--keep", type=int, default=20, metavar="N", help="newest versions that are kept (default: %(default)s)")
    add("--log-url", default="", help="database of the log (default: LOG_URL, else the task's SQLite file)")
    return parser


def _act(options: argparse.Namespace) -> None:
    """Do what the options ask for."""
    settings = Settings(
        Sources(options.log_url, Rules(options.confidence, options.flood), options.new_class_images, options.held_back),
        options.method,
        not options.no_approval,
        options.keep,
        Triggers(options.labels, options.least_labels, options.cooldown),
    )
    if options.watch:
        _watch(options.task, settings, options.every)
        return
    task = default_task(options.task)
    if options.retrain:
        retrain(task, settings)
    elif options.quarantine:
        print(told_quarantine(task, settings.sources))
    elif options.images:
        material = gather(task, settings.sources)
        known = [*dict.fromkeys([*material.audited["sha256"], *material.additions["sha256"]])]
        images = whole_names(options.images, known)
        write_reviews(task, read_reviews(task) | dict.fromkeys(images, options.accept))
        print(f"Kept in {display_path(reviews_path(task))}.")
    else:
        outcome = step(task, settings, asked=True)
        print(outcome.gate.table.to_string(index=False))
        print(in_words(task, outcome))


def _watch(task: str | None, settings: Settings, seconds: float) -> None:
    """Work until SIGTERM or SIGINT."""
    set_up_logging(as_json=not sys.stderr.isatty())
    watch(lambda: [task] if task else tasks(), settings, stopped_by_signals(), seconds)


def whole_names(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """SHA-256 of the labelled images that these digits begin.

    Raises
    ------
    ParameterError
        If some begin none, or several.
    """
    found = []
    for digits in given:
        meant = [sha256 for sha256 in known if sha256.startswith(digits.lower())]
        if len(meant) != 1:
            raise ParameterError(
                f"{digits!r} begins the SHA-256 of {len(meant)} labelled images, not of one; --quarantine lists them."
            )
        found += meant
    return found


def told_quarantine(task: str, sources: Sources) -> str:
    """How many labels are believed and how many are not, why, and where these are listed."""
    material = gather(task, sources)
    counts = material.audited.groupby(["state", "reason"]).size()
    lines = [f"{n:6,}  {state}{': ' if reason else ''}{reason}" for (state, reason), n in counts.items()]
    path = list_quarantined(task, material)
    return "\n".join([*lines, f"All but the believed ones: {display_path(path)}"])


if __name__ == "__main__":
    sys.exit(main())
