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
from pathlib import Path

import pytest
import yaml
from debian import program
from processes import running
from test_deployment import INSTRUCTIONS, SERVICES, command_of

from lib import registry
from lib.monitoring.__main__ import _parser as monitoring_parser
from lib.production import connect_to, predictions
from lib.storage import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
LATER = ["2999-a", "2999-b", "2999-c"]  # versions promoted one after the other: the page goes back three times
WORKERS = 8  # seconds that a program which runs until it is stopped is given to fail


def docker_parser() -> argparse.ArgumentParser:
    """What the page may ask of Docker."""
    parser = argparse.ArgumentParser()
    actions = parser.add_subparsers(dest="action", required=True)
    compose = actions.add_parser("compose")
    verbs = compose.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up")
    up.add_argument("--detach", action="store_true", required=True)
    up.add_argument("--wait", action="store_true", required=True)
    run, execute = verbs.add_parser("run"), verbs.add_parser("exec")
    run.add_argument("--rm", action="store_true", required=True)
    run.add_argument("--no-deps", action="store_true")
    run.add_argument("-v", type=lambda text: text.index(":/"))
    for verb in (run, execute):
        verb.add_argument("-T", action="store_true")
        verb.add_argument("service", choices=SERVICES)
        verb.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("stop").add_argument("services", nargs="+", choices=SERVICES)
    build = actions.add_parser("build")
    build.add_argument("--target", choices=["serve", "reporting", "pipeline"])
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
    words = shlex.split(re.sub(r"[<>] \S+$", "", line))
    options = docker_parser().parse_args(words[1:])
    if options.action == "build":
        assert any(line.startswith(f"ARG {options.build_arg}=") for line in INSTRUCTIONS)


# Stands in for Docker: what is to run in a container of ours runs here
DOCKER = r"""#!/bin/bash
[ "$1 $2" = "compose run" ] || [ "$1 $2" = "compose exec" ] || exit 0
shift 2
while [[ $1 == -* ]]; do [ "$1" = -v ] && shift; shift; done
service=$1
shift
if [ $# = 0 ] || [ "$service" = postgres ]; then exit 0; fi
exec "${@//\/backup/$PWD/backup}"
"""


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
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    tools = Path(program("postgresql", "/usr/lib/postgresql/*/bin/pg_dump")).parent
    programs = folder / "bin", folder / ".venv" / "bin", os.environ["PATH"], tools
    environment = shared_environment | {
        "ARTIFACTS_DIR": str(folder / "artifacts"), "PRODUCTION_DIR": str(folder / "data" / "production"),
        "REPORTS_DIR": str(folder / "reports"), "PATH": ":".join(map(str, programs)),
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


def only_looked_at(line: str) -> bool:
    """Look at a command that takes minutes and has tests of its own; whether it is one."""
    if "lib.monitoring" in line and not line.endswith("&"):
        monitoring_parser().parse_args(shlex.split(line.split("lib.monitoring")[1]))
        return True
    if line.endswith(("deploy/try_image.py", "deploy/lock.py")):
        compile((PROJECT_ROOT / line.split()[-1]).read_text(encoding="utf-8"), line, "exec")
        return True
    return False


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
        if line.startswith("docker "):
            check_docker(line)
        if only_looked_at(line):
            continue
        if line.startswith("docker compose stop"):
            sandbox.stop()
            stopped = True
        elif stopped and line.startswith("docker compose up"):
            sandbox.start()
            stopped = False
        here = line.replace("http://127.0.0.1:8000", sandbox.address)
        here = re.sub(r"(--task |production/|artifacts/)sample", r"\1tiny", here)
        if line.endswith("&"):
            run_until_stopped(here.removesuffix("&").replace("serve.py", "serve.py --port 0"), folder, environment)
            continue
        more = {"PORTS": sandbox.address.rsplit(":", 1)[1], "SMOKE_IMAGE": image}
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
    settings = (folder / ".env").read_text().splitlines()
    assert {"TAG=v1.2.3", "TASK=birds", "REPLICAS=2", "COMPOSE_PROFILES=observability"} <= set(settings)
    engine.dispose()


@pytest.mark.parametrize(
    "line",
    ["docker compose up --detach", "docker build --target x .", "docker compose stop nothing",
     "docker compose exec nothing ls", "docker build --target serve --build-arg NOTHING=1 ."],
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
    arguments = {name for service in SERVICES.values() for name in service.get("build", {}).get("args", ())}
    assert set(re.findall(r"`([A-Z_]+)`", table)) == {*variables, *arguments}
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
