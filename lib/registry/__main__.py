"""The command line: list a task's versions, promote one, go back to the champion before, carry one away."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lib import registry
from lib.command_line import exit_status
from lib.errors import ArtifactError
from lib.provenance import user


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 it cannot be done, 2 bad usage, 3 another process is at it."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _act(options), (ArtifactError,))


def _act(options: argparse.Namespace) -> None:
    """Do what the options ask for."""
    if options.action == "diff":
        print(comparison(options.task, options.first, options.second))
        return
    if options.action == "export":
        print(registry.export(options.task, options.folder.absolute()))
        return
    if options.action == "promote":
        registry.promote(options.task, options.version, by=options.by, why=options.why)
    elif options.action == "rollback":
        registry.rollback(options.task, by=options.by, why=options.why)
    print(listing(options.task))


def _parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m lib.registry", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (
        ("list", "show the versions, newest last"),
        ("promote", "make an evaluated version the champion; a running service follows"),
        ("rollback", "make the champion before this one the champion again"),
        ("diff", "say what tells two versions apart"),
        ("export", "copy what a service needs, to serve it elsewhere or to put it into an image"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--task", required=True, help="which task")
        if name == "promote":
            action.add_argument("version", help="its name")
        if name in ("promote", "rollback"):
            action.add_argument("--by", default=user(), help="who decides it (default: %(default)s)")
            action.add_argument("--why", default="", help="for what reason")
        if name == "diff":
            action.add_argument("first", help="a version")
            action.add_argument("second", help="another one")
        if name == "export":
            action.add_argument("folder", type=Path, help="where to, laid out as artifacts/ is")
    return parser


def comparison(task: str, first: str, second: str) -> str:
    """A line for everything that tells two versions apart; raises ArtifactError if one is missing or damaged."""
    rows = registry.differences(registry.verify(task, first), registry.verify(task, second))
    return "\n".join(f"{what:<24}  {one or '-'}  ->  {other or '-'}" for what, one, other in rows)


def listing(task: str) -> str:
    """A line a version: name, test accuracy, model, which one serves (*), and which one waits (?)."""
    now = registry.deployment(task)
    lines = []
    for name in registry.versions(task):
        try:
            version = registry.verify(task, name)
            test = version.metrics.get("test")
            scored = f"{test['accuracy']['value']:.3f}, n = {test['n']:,}" if test else "not evaluated"
            told = f"{scored:<18}  {version.card['model']}"
        except ArtifactError as error:
            told = f"damaged: {error}"
        mark = {now["champion"]: "*", now["challenger"]: "?"}.get(name, " ")
        lines.append(f"{mark} {name}  {told}")
    return "\n".join(lines) or f"Task {task!r} has no version; run ./run_pipeline.sh --task {task}."


if __name__ == "__main__":
    sys.exit(main())
