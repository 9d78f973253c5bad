"""docs/OPERATIONS.md tells the truth: its commands run, in its order, and its alarms are those that there are."""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from debian import program
from processes import running
from test_deployment import INSTRUCTIONS, SERVICES, command_of, stages

from lib import registry
from lib.monitoring.__main__ import _parser as monitoring_parser
from lib.pipeline import _parser as pipeline_parser
from lib.production import connect_to, predictions
from lib.storage import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
PROFILES = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
LATER = ["2999-a", "2999-b", "2999-c"]  # versions promoted one after the other: the page goes back three times
WORKERS = 8  # seconds that a program which runs until it is stopped is given to fail


def docker_parser() -> argparse.ArgumentParser:
    """What the page may ask of Docker."""
    parser = argparse.ArgumentParser(exit_on_error=True)
    actions = parser.add_subparsers(dest="action", required=True)
    compose = actions.add_parser("compose")
    compose.add_argument("--profile", choices=sorted(PROFILES))
    compose.add_argument("--env-file", type=lambda name: (PROJECT_ROOT / name).read_text(encoding="utf-8"))
    verbs = compose.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up")
    up.add_argument("--detach", action="store_true", required=True)
    up.add_argument("--wait", action="store_true", required=True)
    run = verbs.add_parser("run")
    run.add_argument("--rm", action="store_true", required=True)
    for verb, number in ((run, 1), (verbs.add_parser("stop"), "*"), (verbs.add_parser("ps"), "*")):
        verb.add_argument("services", nargs=number, choices=[*SERVICES, []])
    build = actions.add_parser("build")
    build.add_argument("--target", choices=[name for name in stages() if name in ("serve", "reporting", "pipeline")])
    build.add_argument("--build-arg", type=lambda text: text.split("=")[0])
    build.add_argument("--tag")
    build.add_argument("context", choices=["."])
    start = actions.add_parser("run")
    start.add_argument("--read-only", action="store_true")
    for option in ("--tmpfs", "--cap-drop", "--publish"):
        start.add_argument(option)
    start.add_argument("image")
    return parser


def check_docker(line: str) -> None:
    """Hold a command of Docker against the compose file and the Dockerfile."""
    words, variables = shlex.split(line), []
    while re.match(r"[A-Z_]+=", words[0]):
        variables.append(words.pop(0).split("=")[0])
    compose = (PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert all(f"${{{name}:-" in compose for name in variables)
    options = docker_parser().parse_args(words[1:])
    if options.action == "build":
        assert any(line.startswith(f"ARG {options.build_arg}=") for line in INSTRUCTIONS)


class Host:
    """A checkout, the environment of its programs, and the service that runs there: what Compose starts and stops."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment = folder, environment

    def start(self) -> None:
        """Start the service."""
        self._running = running(self.environment)
        self.address = self._running.__enter__().address

    def stop(self) -> None:
        """Let the service finish and end."""
        self._running.__exit__(None, None, None)


@pytest.fixture
def sandbox(tiny_run, tiny_task, tmp_path, shared_folder, shared_environment, postgres):
    """A checkout to run the page's commands in, with a running service."""
    folder = tmp_path / "checkout"
    shutil.copytree(PROJECT_ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(shared_folder / "artifacts", folder / "artifacts")
    (folder / "data" / "production").mkdir(parents=True)
    for name in ("lib", "notebooks", "serve.py", "run_pipeline.sh", "data/sample"):
        (folder / name).symlink_to(PROJECT_ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "bin").mkdir()
    docker = folder / "bin" / "docker"
    docker.write_text("#!/bin/sh\nexit 0\n")  # `check_docker` looks at its arguments
    docker.chmod(0o755)
    tools = Path(program("postgresql", "/usr/lib/postgresql/*/bin/pg_dump")).parent
    environment = shared_environment | {
        "ARTIFACTS_DIR": str(folder / "artifacts"), "PRODUCTION_DIR": str(folder / "data" / "production"),
        "REPORTS_DIR": str(folder / "reports"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}:{tools}",
        "SERVE_TOKEN_FILE": str(folder / "secrets" / "serve_token"), "DATABASE": postgres.replace("+psycopg", ""),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }  # fmt: skip
    subprocess.run([folder / "deploy" / "make_secrets.sh"], check=True, capture_output=True)
    repository = "git init -q && git -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m t"
    subprocess.run(f"{repository} && git tag v1.2.3 && git remote add origin .", shell=True, cwd=folder, check=True)
    host = Host(folder, environment)
    host.start()
    yield host
    host.stop()


def promote_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Promote copies of the champion in turn: the name of the first."""
    monkeypatch.setenv("ARTIFACTS_DIR", str(folder / "artifacts"))
    champion = registry.champion("tiny")
    for name in LATER:
        shutil.copytree(champion.folder, champion.folder.with_name(name))
        registry.promote("tiny", name)
    return champion.name


def run_until_stopped(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a program that goes on until it is stopped; it must be there after a while, and end well."""
    command = ["bash", "-c", f"exec env {line}"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as process:
        time.sleep(WORKERS)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def programs_of(line: str) -> Callable | None:
    """How a command is tried that is not simply run; None for those that are."""
    if "docker" in shlex.split(line)[:3]:
        return check_docker
    if "./run_pipeline.sh" in line:  # test_monitoring and test_notebooks run what these two do
        return lambda line: pipeline_parser().parse_args(shlex.split(line)[1:])
    if "lib.monitoring" in line and not line.endswith("&"):
        return lambda line: monitoring_parser().parse_args(shlex.split(line)[3:])
    if line.endswith(("deploy/try_image.py", "deploy/lock.py")):  # minutes, and the network
        return lambda line: compile((PROJECT_ROOT / line.split()[-1]).read_text(encoding="utf-8"), line, "exec")
    return None


def test_the_commands_run_in_their_order(sandbox, postgres, monkeypatch):
    folder, environment = sandbox.folder, sandbox.environment
    first = promote_more(folder, monkeypatch)
    engine = connect_to(postgres)
    predictions.metadata.create_all(engine)
    image = (PROJECT_ROOT / "data/sample/Bag/00023.png").as_posix()
    ask = ["curl", "-sS", "--fail", "-F", f"image=@{image}", f"{sandbox.address}/predict"]
    assert json.loads(subprocess.run(ask, check=True, capture_output=True).stdout)["logged"]
    stopped = False
    for line in COMMANDS:
        if check := programs_of(line):
            check(line)
            if line == "docker compose stop":
                sandbox.stop()
                stopped = True
            elif stopped and " up " in line:
                sandbox.start()
                stopped = False
            continue
        here = line.replace("http://127.0.0.1:8000", sandbox.address).replace("--task sample", "--task tiny")
        if line.endswith("&"):
            run_until_stopped(here.removesuffix("&").replace("serve.py", "serve.py --port 0"), folder, environment)
            continue
        more = {"SMOKE_URL": sandbox.address, "SMOKE_IMAGE": image}
        found = subprocess.run(
            ["bash", "-c", here], cwd=folder, env=environment | more, capture_output=True, text=True, timeout=120
        )
        assert found.returncode == 0, (line, found.stderr)
        if line.startswith("curl"):
            assert "tiny" in found.stdout, (line, found.stdout)
    assert registry.champion("tiny").name == first
    assert (folder / "backup" / "production" / "tiny" / "production.db").exists()
    assert (folder / "backup" / "production.dump").stat().st_size > 1000
    assert (folder / "backup" / "artifacts" / "tiny" / "deployment.json").exists()
    assert (folder / "model" / "tiny" / "deployment.json").exists()
    assert (folder / ".env").read_text() == "TAG=v1.2.3\n"
    engine.dispose()


@pytest.mark.parametrize(
    "line",
    ["docker compose --profile none up --detach --wait", "docker compose up --detach", "docker build --target x .",
     "NOTHING=1 docker compose stop", "docker compose stop nothing"],
)  # fmt: skip
def test_a_command_of_docker_that_fits_nothing_is_noticed(line):
    with pytest.raises((SystemExit, AssertionError)):
        check_docker(line)


def test_every_alarm_has_its_section_and_every_section_its_alarm():
    rules = yaml.safe_load((PROJECT_ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    alarms = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    section = TEXT.split("\n## Alarms, and what to do\n")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == alarms


def test_every_variable_of_the_compose_file_is_told_with_its_default():
    compose = (PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    variables = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", compose))
    table = TEXT.split("| variable | default | what |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([A-Z_]+)`", table)) == set(variables)
    for name in ("TAG", "PORTS", "REPLICAS", "CPUS", "REPORT_EVERY", "IMAGE"):
        assert f"`{variables[name]}`" in table


def test_files_options_and_workflows_that_are_named_exist():
    for name in re.findall(r"`((?:deploy|lib|tests|docs)/[\w./-]+)`", TEXT):
        assert (PROJECT_ROOT / name).exists(), name
    for name in re.findall(r"`(\w+\.yml)`", TEXT):
        assert list(PROJECT_ROOT.rglob(f".github/workflows/{name}"))
    command = [sys.executable, "serve.py", "--help"]
    helped = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True).stdout
    for option in ("--trusted-host", "--rate-limit", "--max-inflight"):
        assert option in TEXT
        assert option in helped
    assert command_of("reporting")[-1] == "15m"
