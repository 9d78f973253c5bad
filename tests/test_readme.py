"""README tells the truth: its parameters exist, its files exist, its commands and curl lines run."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from processes import running
from test_operations import check_docker

from lib import pipeline
from lib.stages import STAGES
from lib.storage import PROJECT_ROOT
from serve import create_app

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
PARAMETERS = {name for stage in STAGES.values() for name in stage.parameters}


def test_every_parameter_named_in_readme_exists():
    named = set(re.findall(r"-p (\w+)", README)) | {"data_dir", "backbone", "weights", "seed"}
    assert named <= PARAMETERS
    assert {"test_fraction", "val_fraction"} <= PARAMETERS & set(re.findall(r"`(\w+)`", README))


def test_every_option_named_in_readme_exists():
    help_texts = (
        pipeline._parser().format_help()
        + subprocess.run(
            [sys.executable, "serve.py", "--help"], cwd=PROJECT_ROOT, capture_output=True, text=True
        ).stdout
    )
    for module in ("lib.registry", "lib.learning", "lib.monitoring", "lib.production"):
        command = [sys.executable, "-m", module, "--help"]
        help_texts += subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True).stdout
    own = "\n".join(line for line in README.splitlines() if not line.startswith("docker "))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", own)) - {"--data-binary"}:
        assert option in help_texts


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("./run_pipeline.sh")])
def test_each_pipeline_command_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos" / "birds").mkdir(parents=True)
    options = pipeline._parser().parse_args(shlex.split(command.replace("~", str(tmp_path)))[1:])
    selected = pipeline.select_stages(options.stages)
    task, _ = pipeline.resolve(selected, pipeline.collect_parameters(options.parameters, options.files), options.task)
    assert task in ("sample", "birds")


def test_the_scripts_and_programs_of_the_commands_exist():
    for command in COMMANDS:
        program = command.split()[0]
        if program.startswith(("./", "deploy/")):
            assert (PROJECT_ROOT / program).stat().st_mode & 0o111
        elif program == "docker":
            check_docker(command)
        elif program != "curl":
            assert program in (".venv/bin/python", ".venv/bin/jupyter")
    for name in re.findall(r"`([\w./-]+\.(?:py|sh|txt|md|yml|ipynb))`", README):
        assert list(PROJECT_ROOT.glob(f"**/{name}")) or (PROJECT_ROOT / name).exists()
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README):
        assert (PROJECT_ROOT / picture).exists()


TOKEN = "a-token-of-enough-characters"


@pytest.fixture
def address(tiny_run, shared_environment):
    """serve.py as README starts it, but on a free port."""
    assert ".venv/bin/python serve.py &" in COMMANDS
    with running(shared_environment | {"SERVE_TOKEN": TOKEN}) as service:
        yield service.address


def test_the_curl_lines_run_and_answer_in_the_form_shown(address):
    answers = []
    for command in (c for c in COMMANDS if c.startswith("curl")):
        line = shlex.split(command.replace("http://127.0.0.1:8000", address).replace("$SERVE_TOKEN", TOKEN))
        result = subprocess.run([*line, "-sS"], cwd=PROJECT_ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        answers.append(json.loads(result.stdout))
    shown = json.loads(re.search(r"```json\n(.*?)```", README, re.DOTALL)[1])
    first, raw, explained, ready, models, rollback, feedback, begun, experiment = answers
    assert keys(first) == keys(shown)
    assert first["predictions"][0]["label"] == shown["predictions"][0]["label"]
    assert raw["predictions"][0]["label"] == "Bag"
    assert {"heatmap", "neighbors"} <= set(explained["predictions"][0])
    assert ready["status"] == "ready"
    assert models["answering"] == models["models"][-1]["version"]
    assert (feedback["label"], feedback["new"]) == ("Clutch", True)
    assert rollback["status"] == 409  # there is one version only
    assert "no earlier champion" in rollback["detail"]
    assert begun["status"] == 400
    assert "No version waits" in begun["detail"]
    assert experiment["experiment"] is None


def test_the_lines_for_tritons_client_run(address, tiny_folder):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    photo = next((tiny_folder / "Bag").glob("*.png"))
    code = code.replace("127.0.0.1:8000", address.removeprefix("http://"))
    code = code.replace("photo.jpg", str(photo)).replace('"sample"', '"tiny"')
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[b'Bag']", result.stderr


def test_the_registrys_commands_run(tiny_task, shared_environment):
    commands = [c for c in COMMANDS if "lib.registry" in c]
    assert commands
    for command in commands:
        line = [sys.executable, *command.replace("--task sample", f"--task {tiny_task}").split()[1:]]
        result = subprocess.run(line, cwd=PROJECT_ROOT, env=shared_environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("* ")


def keys(value):
    """The shape of a JSON value: its keys, and what the first item of each list is like."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(item) for item in value[:1]] if isinstance(value, list) else None


def test_the_limits_in_readme_are_those_of_the_code():
    from lib.images import FORMATS, MAX_PIXELS
    from serve import MAX_BODY

    assert f"more than {MAX_BODY // 1_000_000} MB" in README
    assert f"over {MAX_PIXELS // 1_000_000} million pixels" in README
    assert all(name in README for name in FORMATS)
    first = {f"/{rule.rule.split('/')[1]}" for rule in create_app("t").url_map.iter_rules()}
    assert not [route for route in first - {"/static", "/correction"} if route not in README]
