"""What deploys the project: Dockerfile, compose file and scripts, by their own tools and by what they must say."""

import json
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from processes import free_port, running

import lib
from lib import learning, monitoring, pipeline
from lib.environment import pins
from lib.storage import PROJECT_ROOT
from lib.web import auth, options
from lib.web.openapi import document
from serve import MAX_BODY

DEPLOY = PROJECT_ROOT / "deploy"
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = DOCKERFILE.replace("\\\n", " ").splitlines()  # an instruction each
INSTRUCTIONS = [" ".join(line.split()) for line in LINES if re.match("[A-Z]", line)]
COMPOSE = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OWN = ("serve", "reporting", "learning", "pipeline")
SCRIPTS = [PROJECT_ROOT / ".ci" / "run", PROJECT_ROOT / "lib" / "environment.sh"]
SCRIPTS += [*DEPLOY.glob("*.sh"), *PROJECT_ROOT.glob("*.sh")]
IMAGE = PROJECT_ROOT / "data" / "sample" / "Bag" / "00023.png"
TOOLS = Path(sys.executable).parent


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a checker that is installed beside Python."""
    return subprocess.run([TOOLS / name, *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True)


def stages() -> dict[str, list[str]]:
    """Name of each build stage -> its instructions, those of the stages it stands on first."""
    found: dict[str, list[str]] = {}
    for line in INSTRUCTIONS:
        if line.startswith("FROM "):
            _, base, _, name = line.split()
            found[name] = list(found.get(base, []))
            current = found[name]
        elif found:
            current.append(line)
    return found


def test_dockerfile_and_scripts_are_clean():
    for checked in (tool("hadolint", "Dockerfile"), tool("shellcheck", *SCRIPTS)):
        assert (checked.returncode, checked.stdout) == (0, "")
    assert all(script.stat().st_mode & stat.S_IXUSR for script in SCRIPTS if script.name != "environment.sh")


@pytest.mark.parametrize("target", ["serve", "reporting", "pipeline"])
def test_each_image_has_a_user_without_rights_labels_and_a_command_that_gets_signals(target):
    lines = stages()[target]
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert "STOPSIGNAL SIGTERM" in lines
    commands = [line.split(" ", 1)[1] for line in lines if line.startswith(("CMD", "ENTRYPOINT"))]
    assert len(commands) == 1
    assert json.loads(commands[0])[0] == "python"
    labels = next(line for line in lines if line.startswith("LABEL"))
    assert all(f"org.opencontainers.image.{name}=" in labels for name in ("title", "licenses", "version", "revision"))
    assert INSTRUCTIONS[0] == "ARG BASE_IMAGE=python:3.11-slim-bookworm"
    assert not re.search(r"\bcurl\b|\bADD\b|\bsudo\b", DOCKERFILE)


def test_the_service_has_a_health_check_and_takes_a_model():
    lines = stages()["serve"]
    check = next(line for line in lines if line.startswith("HEALTHCHECK"))
    command = json.loads(check.split(" CMD ")[1])
    assert command == SERVICES["serve"]["healthcheck"]["test"][1:]
    assert "COPY --chown=10001:10001 ${MODEL}/ artifacts/" in lines
    assert (PROJECT_ROOT / re.search(r"ARG MODEL=(\S+)", DOCKERFILE)[1]).is_dir()
    assert "torch" not in "".join(line for line in lines if line.startswith("RUN"))


def test_torch_comes_from_the_index_for_processors_in_the_version_that_is_pinned():
    packages = " ".join(stages()["pipeline-packages"])
    assert '--index-url "${TORCH_INDEX}" -r torch.txt' in packages
    assert "ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu" in INSTRUCTIONS
    listed = (PROJECT_ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = pins(PROJECT_ROOT / "requirements.txt")
    assert re.findall(r"(?m)^(torch(?:vision)?)==(\S+)", listed) == [
        (name, pinned[name]) for name in ("torch", "torchvision")
    ]


def test_nothing_but_what_is_named_gets_into_an_image():
    lines = (PROJECT_ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")}
    assert not allowed & {"tests", "artifacts", "reports", "secrets", ".git", "data"}
    sources = {
        source.rstrip("/")
        for line in INSTRUCTIONS
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
        if not source.startswith(("--", "$"))
    }
    assert {"lib", "serve.py", "notebooks"} < sources
    for source in sources - {"data"}:
        assert list(PROJECT_ROOT.glob(source))
        assert any(Path(source).match(pattern) for pattern in allowed), source


def test_images_may_be_as_large_for_one_trial_as_for_the_other():
    sizes = runpy.run_path(str(DEPLOY / "try_image.py"))["SIZES"]
    script = (DEPLOY / "smoke_container.sh").read_text(encoding="utf-8")
    limits = dict(re.findall(r"([\w*]+)\) limit=(\d+)", script))
    assert {name: int(limits.get(name, limits["*"])) for name in sizes} == sizes


def test_the_compose_file_fits_the_specification(tmp_path):
    checked = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout
    broken = {"services": {"serve": {"image": "x", "restarts": "always"}}}
    (tmp_path / "broken.yml").write_text(yaml.safe_dump(broken))
    checked = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "broken.yml")
    assert checked.returncode == 1


@pytest.mark.parametrize("name", OWN)
def test_each_of_our_containers_is_hardened(name):
    service = SERVICES[name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["build"]["target"] == ("pipeline" if name == "learning" else name)
    has_torch = service["build"]["target"] == "pipeline"
    assert service["build"]["args"] == ["BASE_IMAGE", *["TORCH_INDEX"] * has_torch]  # of .env, or the Dockerfile's own
    assert int(service["stop_grace_period"].removesuffix("s")) > options.DEADLINE
    places = {volume.split("}:")[1].removesuffix(":ro") for volume in service["volumes"]}
    assert {"/app/artifacts", "/app/data/production", "/app/reports", "/images"} == places
    assert service["logging"]["options"]["max-size"]


def test_all_that_stays_is_healthy_or_waited_for():
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name != "pipeline"), name
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[needed]
    for name in ("serve", "reporting", "learning"):
        assert SERVICES[name]["depends_on"]["postgres"] == {"condition": "service_healthy", "required": False}


def test_profiles_and_replicas():
    assert {name: tuple(service.get("profiles", ())) for name, service in SERVICES.items()} == {
        "serve": (), "reporting": (), "learning": (), "pipeline": ("pipeline",), "postgres": ("postgres",),
        "prometheus": ("observability",), "grafana": ("observability",),
    }  # fmt: skip
    set_by = dict(
        line.split("=", 1)
        for line in (DEPLOY / "postgres.env").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    assert (set_by["COMPOSE_PROFILES"], set_by["REPLICAS"], set_by["PORTS"]) == ("postgres", "2", "8000-8001")
    text = (PROJECT_ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(set_by) - {"COMPOSE_PROFILES"} <= set(re.findall(r"\$\{(\w+)", text))
    user, host, database = re.fullmatch(r"postgresql\+psycopg://(\w+)@(\w+)/(\w+)", set_by["LOG_URL"]).groups()
    asked = SERVICES["postgres"]["environment"]
    assert (user, host, database) == (asked["POSTGRES_USER"], "postgres", asked["POSTGRES_DB"])


def test_ports_are_of_this_machine_only_and_other_images_have_a_version():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        if name not in OWN:
            assert re.search(r":v?\d+\.\d+", service["image"])


def test_secrets_come_as_files_and_never_as_values():
    made = set(COMPOSE["secrets"])
    for service in SERVICES.values():
        assert set(service.get("secrets", [])) <= made
        for variable, value in service.get("environment", {}).items():
            if re.search("TOKEN|PASSWORD|WEBHOOK", variable):
                assert variable.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    ignored = (PROJECT_ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/secrets/", "/.env"} <= set(ignored)


def test_what_is_mounted_from_the_project_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", volume).split(":")[0]
            assert source in COMPOSE["volumes"] or (PROJECT_ROOT / source).exists()


def command_of(name: str) -> list[str]:
    """Command line of a service with the defaults of its variables."""
    service = SERVICES[name]
    command = service["command"]
    words = [*service.get("entrypoint", []), *(command.split() if isinstance(command, str) else command)]
    filled = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
    return [word for word in filled if word]


def test_the_commands_are_understood_by_the_programs():
    from lib.learning.__main__ import _parser as learning_parser
    from lib.monitoring.__main__ import _parser as monitoring_parser

    assert options.parser().parse_args(command_of("serve")[2:]).host == "0.0.0.0"
    assert command_of("reporting")[:3] == ["python", "-m", monitoring.__name__]
    assert monitoring_parser().parse_args(command_of("reporting")[3:]).every == "15m"
    assert command_of("learning")[:3] == ["python", "-m", learning.__name__]
    assert learning_parser().parse_args(command_of("learning")[3:]).watch
    asked = pipeline._parser().parse_args(command_of("pipeline"))
    assert (asked.parameters, asked.task) == ([["data_dir", "/images"]], "sample")


@pytest.fixture
def project(tmp_path):
    """A folder with the scripts, to run them in."""
    shutil.copytree(DEPLOY, tmp_path / "project" / "deploy", ignore=shutil.ignore_patterns("__pycache__", "*.lock"))
    return tmp_path / "project"


def test_secrets_are_made_once_and_are_tokens_that_the_service_takes(project, monkeypatch):
    def make() -> dict[str, str]:
        subprocess.run([project / "deploy" / "make_secrets.sh"], check=True, capture_output=True)
        return {path.name: path.read_text() for path in (project / "secrets").iterdir()}

    first = make()
    assert set(first) == set(COMPOSE["secrets"])
    assert len(set(first.values())) == len(first)
    assert first["monitoring_webhook"] == ""
    monkeypatch.setenv("SERVE_TOKEN_FILE", str(project / "secrets" / "serve_token"))
    assert auth.read_token() == first["serve_token"].strip()
    assert make() == first
    assert stat.S_IMODE((project / "secrets").stat().st_mode) == 0o700  # nobody else gets to the files, which are 0644


def smoke(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Run the smoke test."""
    command = [sys.executable, DEPLOY / "smoke.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_smoke_test_passes_a_service_that_drains(tiny_run, shared_environment):
    with running(shared_environment) as service:
        stop = f"kill -TERM {service.process.pid}"
        told = smoke(service.address, IMAGE, "--label", "Bag", "--stop", stop)
        assert told.returncode == 0, told.stderr
        assert service.process.wait(timeout=40) == 0
        assert re.fullmatch(r"ready after [\d.]+ s; Bag \(\d+%\)\n240 images in flight .*\n", told.stdout)


def test_the_smoke_test_fails_what_answers_wrong_dies_at_work_or_is_not_there(tiny_run, shared_environment):
    with running(shared_environment, status=-9) as service:
        wrong = smoke(service.address, IMAGE, "--label", "Trouser")
        assert (wrong.returncode, "/predict answers Bag" in wrong.stderr) == (1, True)
        died = smoke(service.address, IMAGE, "--stop", f"kill -KILL {service.process.pid}")
        assert (died.returncode, "it let go of accepted work" in died.stderr) == (1, True)
    nobody = smoke(f"http://127.0.0.1:{free_port()}", IMAGE, "--wait", "0.3")
    assert (nobody.returncode, nobody.stderr[:20]) == (1, "Not ready within 0.3")


DOCKER = """#!/bin/sh
# Stands in for Docker: writes down what it is asked, and cannot start the releases that are named broken.
echo "$(sed -n 's/^TAG=//p' .env) $*" >> calls
case "$*" in *" up "*) grep -q '^TAG=broken' .env && exit 1 ;; esac
exit 0
"""


@pytest.fixture
def deploy(project, tiny_run, shared_environment):
    """deploy.sh where a service runs already: deploy(tag) -> exit status, stderr, .env."""
    (project / "bin").mkdir()
    (project / "bin" / "docker").write_text(DOCKER)
    (project / "bin" / "docker").chmod(0o755)
    (project / ".env").write_text("PORTS=8000\nTAG=v1\n")
    with running(shared_environment) as service:

        def run(*arguments: str, label: str = "Bag", ports: Callable[[int], object] = str) -> tuple[int, str, str]:
            environment = os.environ | {
                "PATH": f"{project / 'bin'}:{os.environ['PATH']}", "PORTS": str(ports(service.port)),
                "SMOKE_IMAGE": str(IMAGE), "SMOKE_LABEL": label, "SMOKE_WAIT": "1",
            }  # fmt: skip
            command = [project / "deploy" / "deploy.sh", *arguments]
            found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            return found.returncode, found.stderr, (project / ".env").read_text()

        yield run


def test_a_release_that_answers_stays(deploy, project):
    assert deploy("v2") == (0, "", "PORTS=8000\nTAG=v2\n")
    calls = (project / "calls").read_text().splitlines()
    assert [" ".join(call.split()[:3]) for call in calls] == ["v2 compose pull", "v2 compose up"]
    assert {"--wait", "--no-build"} <= set(calls[1].split())
    assert "ignore" not in calls[0]


def test_every_port_is_asked(deploy, project):
    status, told, _ = deploy("v2", ports=lambda port: f"{port}-{port + 1}")
    assert (status, "does not serve either" in told) == (3, True)


def test_a_release_brings_its_own_files_and_so_does_the_one_before(deploy, project):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], *(part for tag in ("v1", "broken-v2") for part in (
        ["commit", "-q", "--allow-empty", "-m", tag], ["tag", tag]))):  # fmt: skip
        subprocess.run([*git, *command], cwd=project, check=True)
    status, _, _ = deploy("broken-v2")
    at = subprocess.run(["git", "describe", "--tags"], cwd=project, capture_output=True, text=True, check=True).stdout
    assert (status, at) == (1, "v1\n")
    assert deploy("v9")[0] == 1  # there is no such tag
    assert (project / ".env").read_text() == "PORTS=8000\nTAG=v1\n"


def test_a_release_that_fails_gives_way_to_the_one_before(deploy, project):
    status, told, settings = deploy("broken-v3")
    assert (status, settings) == (1, "PORTS=8000\nTAG=v1\n")
    assert "broken-v3 failed; going back to v1." in told
    assert (project / "calls").read_text().splitlines()[-1].startswith("v1 compose up")


def test_where_the_one_before_fails_too_somebody_must_look(deploy, project):
    status, told, _ = deploy("v2", label="Trouser")  # whatever answers, it is no trouser
    assert (status, "v1 does not serve either." in told) == (3, True)
    (project / ".env").unlink()
    status, told, settings = deploy("broken-first")
    assert (status, settings) == (3, "TAG=broken-first\n")
    assert "no other release is known" in told


@pytest.mark.parametrize("arguments", [(), ("v1", "v2"), ("v1; true",), ("-x",)])
def test_no_tag_is_bad_usage(deploy, arguments):
    status, told, settings = deploy(*arguments)
    assert (status, settings) == (2, "PORTS=8000\nTAG=v1\n")
    assert told.startswith("Usage: ")


def test_the_version_stands_in_one_place(tmp_path):
    assert document(MAX_BODY)["info"]["version"] == lib.__version__
    assert 'version = {attr = "lib.__version__"}' in (PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changes = (PROJECT_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## (Unreleased|{re.escape(lib.__version__)}\b)", changes, re.MULTILINE)
    tracked = subprocess.run(
        ["git", "grep", "-lF", f'"{lib.__version__}"'], cwd=PROJECT_ROOT, capture_output=True, text=True
    )
    if tracked.returncode == 0:  # a clone, not an unpacked archive
        assert tracked.stdout.split() == ["lib/__init__.py"]
