"""The command line: run the notebooks in sequence, strictly and resumably. `python -m lib.pipeline --help`."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import yaml

from lib import reports
from lib.command_line import exit_status
from lib.errors import DiskFullError, ParameterError, StageError
from lib.execution import run_notebook
from lib.parameters import check_names, parse_value
from lib.provenance import provenance, utc_now
from lib.sources import default_task
from lib.stages import STAGES, Plan, Record, Stage, Values, check_needs, make_plan
from lib.storage import display_path, lock, read_json, reports_dir, task_dir, task_name, write_json
from lib.tasks import DATASET_FILE
from lib.torchvision_data import PREFIX

DEFAULT = f"default: {', '.join(name for name, stage in STAGES.items() if stage.by_default)}"
PATH_PARAMETERS = ("data_dir", "weights")
STOPPED = 130  # by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 a stage failed, 2 bad usage, 3 another run holds the lock."""
    options = _parser().parse_args(arguments)
    try:
        return exit_status(lambda: _act(options), (StageError, DiskFullError))
    except KeyboardInterrupt:
        print("Stopped; the next run goes on from here.", file=sys.stderr)
        return STOPPED


def _act(options: argparse.Namespace) -> None:
    """Do what the options ask for."""
    if options.list:
        print(list_parameters())
        return
    given = collect_parameters(options.parameters, options.files)
    selected = select_stages(options.stages)
    task, values = resolve(selected, given, options.task)
    if options.dry_run:
        print_plans(selected, task, values, force=options.force)
    else:
        run(selected, task, values, force=options.force)


def _parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="./run_pipeline.sh",
        description="Turn a folder of images into embeddings, reports and a served classifier.",
        epilog="Exit status: 0 done, 1 a stage failed, 2 bad usage, 3 another run works on the same task.",
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"only these: {', '.join(STAGES)} ({DEFAULT})")
    parser.add_argument(
        "-p",
        "--parameter",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a notebook parameter; --list shows all of them",
    )
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        default=[],
        metavar="FILE.yaml",
        help="parameters from a YAML file",
    )
    parser.add_argument("--task", help="name of the task (default: the name of the data folder)")
    parser.add_argument("--force", action="store_true", help="run the stages even if nothing changed")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and why, and stop")
    parser.add_argument("--list", action="store_true", help="show every parameter with type, default and meaning")
    return parser


def list_parameters() -> str:
    """Every parameter of every stage, a line each."""
    lines = []
    for stage in STAGES.values():
        lines += ["", f"{stage.name} (notebooks/{stage.file})"]
        for parameter in stage.parameters.values():
            lines.append(f"  {parameter.name:<18}{parameter.type:<7}{parameter.default!r:<16}{parameter.meaning}")
    return "\n".join(lines).strip()


def collect_parameters(pairs: list[list[str]], files: list[str]) -> dict[str, Any]:
    """Parameters given by YAML files, then by -p, later ones winning.

    Raises
    ------
    ParameterError
        If a file cannot be read or is not a mapping.
    """
    given: dict[str, Any] = {}
    for name in files:
        try:
            content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ParameterError(f"{name} cannot be read as YAML: {error}") from None
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise ParameterError(f"{name} must hold lines of `name: value`.")
        given |= content
    return given | dict(pairs)


def select_stages(names: list[str]) -> list[Stage]:
    """The named stages in pipeline order; where none is named, those that make a model of the data."""
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise ParameterError(f"There is no stage {unknown[0]!r}; the stages are {', '.join(STAGES)}.")
    return [stage for name, stage in STAGES.items() if name in names or (not names and stage.by_default)]


def resolve(selected: list[Stage], given: dict[str, Any], task: str | None) -> tuple[str, dict[str, Values]]:
    """Every parameter's value by stage, checked, and the task's name.

    Raises
    ------
    ParameterError
        For a name that no selected stage has, or a value of the wrong type.
    """
    every = {stage.name: stage.parameters for stage in STAGES.values()}
    chosen = {stage.name: every[stage.name] for stage in selected}
    check_names(given, chosen, every)
    values = {
        stage: {
            name: parse_value(parameter, _anchored(name, given[name])) if name in given else parameter.default
            for name, parameter in parameters.items()
        }
        for stage, parameters in chosen.items()
    }
    named = task or str(given.get("task") or "")
    task = named
    if not named:
        data_dir = (
            _anchored("data_dir", given["data_dir"]) if "data_dir" in given else every["embedding"]["data_dir"].default
        )
        task = default_task(str(data_dir))
    if task != task_name(task):
        raise ParameterError(f"Task {task!r} has characters a task name cannot have; {task_name(task)!r} would do.")
    for stage_values in values.values():
        stage_values["task"] = task
    facts = task_dir(task) / DATASET_FILE
    if named and "embedding" in values and "data_dir" not in given and facts.exists():
        values["embedding"]["data_dir"] = read_json(facts)["data_dir"]  # a named task keeps its data
    return task, values


def _anchored(name: str, value: Any) -> Any:
    """A path given on the command line starts where the user stands, if it is there, else at the project root."""
    if name not in PATH_PARAMETERS or not isinstance(value, str) or not value or value.startswith(PREFIX):
        return value
    path = Path(value).expanduser()
    return str(path.resolve()) if path.exists() else value


def plans(selected: list[Stage], task: str, values: dict[str, Values], record: Record, *, force: bool) -> list[Plan]:
    """A plan a stage, taking into account that those before it will run."""
    running: set[str] = set()
    made = []
    for stage in selected:
        upstream_runs = bool(running & set(stage.needs))
        plan = make_plan(stage, task, values[stage.name], record, force=force, upstream_runs=upstream_runs)
        if plan.reason:
            running.add(stage.name)
        made.append(plan)
    return made


def print_plans(selected: list[Stage], task: str, values: dict[str, Values], *, force: bool) -> None:
    """Say what would run, and why; raises ParameterError as `check_needs` does."""
    record = Record.load(task)
    check_needs(selected, task, record)
    for plan in plans(selected, task, values, record, force=force):
        action = (
            f"run   {plan.stage.name}: {plan.reason}" if plan.reason else f"skip  {plan.stage.name}: nothing changed"
        )
        print(action)


def run(selected: list[Stage], task: str, values: dict[str, Values], *, force: bool) -> None:
    """Run what has to run, publish reports and the index.

    Raises
    ------
    StageError
        If a stage failed; its report is published and the served model untouched.
    LockedError
        If another run works on this task.
    """
    # Bad usage is told before anything is written.
    record = Record.load(task)
    check_needs(selected, task, record)
    first = make_plan(selected[0], task, values[selected[0].name], record, force=force, upstream_runs=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with lock(task_dir(task) / ".lock"):
        record = Record.load(task)
        folder = task_dir(task) / "runs" / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
        try:
            for stage in selected:
                # What it needs has run by now: if that left what it was, this stage has nothing to do.
                plan = first
                if stage is not selected[0]:
                    plan = make_plan(stage, task, values[stage.name], record, force=force, upstream_runs=False)
                if not plan.reason:
                    print(f"{stage.name}: skipped, nothing changed since {record.stages[stage.name]['finished']}")
                    continue
                print(f"{stage.name}: runs ({plan.reason})", flush=True)
                run_stage(plan, task, record, folder)
        finally:
            reports.write_index()
    print(f"Result: {reports.headline(task)}")
    print(f"Reports: {display_path(reports_dir() / 'index.html')}")


def run_stage(plan: Plan, task: str, record: Record, folder: Path) -> None:
    """Run one stage, keep its record and publish its report, whatever happens.

    Raises
    ------
    StageError
        If its notebook failed.
    """
    stage = plan.stage
    facts = {"run": folder.name, "parameters": plan.values, "started": utc_now()}
    record.start(stage.name, **facts)
    write_json(folder / f"{stage.notebook.stem}.json", {**facts, "provenance": provenance()})
    started = perf_counter()
    status, message = "interrupted", "it was stopped"
    try:
        run_notebook(stage.notebook, folder / stage.file, plan.values)
        status, message = "succeeded", ""
    except (StageError, DiskFullError) as error:
        status, message = "failed", str(error)
        raise
    finally:
        seconds = round(perf_counter() - started, 1)
        done = {"key": plan.key, "parts": plan.parts} if status == "succeeded" else {}
        record.update(stage.name, status=status, error=message, finished=utc_now(), seconds=seconds, **done)
        reports.publish(stage, task, folder, record.stages[stage.name])
        if done:
            print(f"{stage.name}: done in {seconds:.0f} s, {display_path(stage.report(task))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
