"""The command line as its user meets it: in a process of its own, on a tiny folder of real images."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lib import pipeline, registry
from lib.errors import ParameterError
from lib.stages import STAGES, Record
from lib.storage import PROJECT_ROOT, lock, read_json, reports_dir, task_dir

STAGE_NAMES = ["embedding", "exploration", "training", "evaluation"]


def test_one_command_leads_from_a_folder_to_reports_and_a_champion(tiny_run, tiny_task):
    record = Record.load(tiny_task)
    assert {name: entry["status"] for name, entry in record.stages.items()} == dict.fromkeys(STAGE_NAMES, "succeeded")
    assert all(stage.report(tiny_task).exists() for stage in STAGES.values() if stage.by_default)
    assert (reports_dir() / "index.html").exists()
    version = registry.champion(tiny_task)
    assert set(version.metrics) == {"selection", "test", "gate", "decision", "resplits"}
    assert version.card["classes"] == ["Ankle boot", "Bag", "Trouser"]
    assert re.search(r"^Result: .* is right on [\d.]+ % .* of \d+ test images", tiny_run.stdout, re.MULTILINE)
    assert "images/s" in tiny_run.stderr
    assert "[5/9] Embedding" in tiny_run.stderr


def test_every_refused_file_is_listed(tiny_task):
    assert 'Bag/notes.txt,Bag,"not an image of a known format' in (task_dir(tiny_task) / "rejected.csv").read_text()


def test_a_second_run_skips_every_stage_and_changes_nothing(tiny_task, tiny_folder, run_pipeline):
    before = sorted(str(path) for path in task_dir(tiny_task).rglob("*"))
    result = run_pipeline("-p", "data_dir", str(tiny_folder), "-p", "backbone", "efficientnet_lite0")
    assert result.returncode == 0
    assert [line.split(",")[0] for line in result.stdout.splitlines()[:4]] == [
        f"{name}: skipped" for name in STAGE_NAMES
    ]
    assert sorted(str(path) for path in task_dir(tiny_task).rglob("*")) == before


def test_a_changed_parameter_runs_its_stage_and_what_depends_on_it(tiny_task, tiny_folder, run_pipeline):
    options = ("-p", "data_dir", str(tiny_folder), "-p", "backbone", "efficientnet_lite0", "--dry-run")
    lines = run_pipeline(*options, "-p", "n_folds", "3").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "skip  embedding",
        "skip  exploration",
        "run   training",
        "run   evaluation",
    ]
    assert "changed: parameters" in lines[2]
    lines = run_pipeline(*options, "-p", "perplexity", "9").stdout.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("run")] == ["run   exploration"]


def test_a_renamed_folder_is_read_anew_and_nothing_else_runs(copied_project, tiny_folder, tmp_path):
    folder, _ = copied_project
    shutil.copytree(tiny_folder, tmp_path / "renamed", symlinks=True)
    options = ("--task", "tiny", "-p", "data_dir", str(tmp_path / "renamed"), "-p", "backbone", "efficientnet_lite0")
    planned = run_in(copied_project, *options, "--dry-run").stdout.splitlines()
    assert planned[:2] == [
        "run   embedding: changed: parameters",
        "run   exploration: if embedding changes what it reads",
    ]
    said = run_in(copied_project, *options).stdout
    assert re.findall(r"^(\w+): (runs|skipped)", said, re.MULTILINE) == [
        ("embedding", "runs"),
        ("exploration", "skipped"),
        ("training", "skipped"),
        ("evaluation", "skipped"),
    ]
    notebook = (folder / "reports/tiny/01_embedding.html").read_text()
    assert "renamed" in notebook
    assert " 0 were computed" in notebook


def test_a_stage_can_run_alone_and_keeps_the_task(tiny_task, run_pipeline):
    result = run_pipeline("exploration", "--task", "tiny", "-p", "max_points", "50")
    assert result.returncode == 0, result.stderr
    assert "exploration: runs (changed: parameters)" in result.stdout
    assert run_pipeline("exploration", "--task", "tiny").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "sede", "3"], "did you mean 'seed'"),
        (["-p", "seed", "abc"], "seed must be a whole number (int, default 0), not 'abc'"),
        (["-p", "test_fraction", "much"], "test_fraction must be a finite number"),
        (["-p", "precision", "int4"], "precision must be one of auto, fp32, int8, fp16 (default 'fp32'), not 'int4'"),
        (["-p", "runtime", "tensorrt"], "runtime must be one of auto, onnxruntime, torch"),
        (["-p", "engine", "spark"], "engine must be one of local, ray"),
        (["-p", "data_dir", "/does/not/exist"], "does not exist"),
        (["trainin"], "no stage 'trainin'"),
        (["training", "-p", "data_dir", "x"], "belongs to embedding"),
        (["training", "--task", "never"], "reads what embedding writes"),
        (["--task", "../x"], "characters"),
        (["-f", "/does/not/exist.yaml"], "cannot be read"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2_before_a_kernel_starts(run_pipeline, tmp_path, arguments, said):
    result = run_pipeline(*arguments, environment={"ARTIFACTS_DIR": str(tmp_path / "artifacts")})
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "artifacts").exists()


FULL_DISK = """
mount -t tmpfs -o size=10m none /mnt
export ARTIFACTS_DIR=/mnt/artifacts REPORTS_DIR=/mnt/reports
{python} -m lib.pipeline embedding -p data_dir {data} -p backbone efficientnet_lite0 2>&1 | tr '\\r' '\\n'
echo "exit ${{PIPESTATUS[0]}}"
"""


def test_a_full_disk_ends_the_run_with_one_sentence(tiny_folder, shared_environment):
    # The exported network alone takes 13 MB.
    script = FULL_DISK.format(python=sys.executable, data=tiny_folder)
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    result = subprocess.run(
        command, cwd=PROJECT_ROOT, env=shared_environment, capture_output=True, text=True, timeout=300
    )
    *_, said, status = result.stdout.splitlines()
    assert status == "exit 1", result.stdout
    assert said.startswith("Failed: ")
    assert "is full; free some space and run again" in said
    assert "Traceback" not in result.stdout


def test_what_only_a_run_needs_is_imported_by_a_run():
    code = "import lib.pipeline, sys; print(sorted({'nbformat', 'nbconvert', 'papermill', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_parameters_come_from_yaml_and_the_command_line_wins(tmp_path):
    (tmp_path / "p.yaml").write_text("seed: 3\nbackbone: resnet50\n")
    given = pipeline.collect_parameters([["seed", "4"]], [str(tmp_path / "p.yaml")])
    _, values = pipeline.resolve(list(STAGES.values()), given, None)
    assert values["embedding"]["seed"] == values["training"]["seed"] == 4
    assert values["embedding"]["backbone"] == "resnet50"


@pytest.mark.parametrize("content", ["- a list", "seed: [", "1: 2", ""])
def test_a_yaml_file_that_is_no_mapping_is_bad_usage(tmp_path, content):
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(ParameterError, match=r"p\.yaml"):
        pipeline.collect_parameters([], [str(tmp_path / "p.yaml")])


def test_the_task_is_named_after_the_folder_and_reaches_every_stage(save_image, tmp_path, monkeypatch):
    save_image("My birds/a/1.png")
    monkeypatch.chdir(tmp_path)
    task, values = pipeline.resolve(list(STAGES.values()), {"data_dir": "My birds"}, None)
    assert task == "My-birds"
    assert {stage["task"] for stage in values.values()} == {"My-birds"}
    assert values["embedding"]["data_dir"] == str(tmp_path / "My birds")


def test_a_task_keeps_its_data_where_none_are_given(tiny_task, tiny_folder):
    _, values = pipeline.resolve(list(STAGES.values()), {}, tiny_task)
    assert values["embedding"]["data_dir"] == str(tiny_folder)


def test_list_shows_every_parameter_with_type_default_and_meaning(run_pipeline):
    listed = run_pipeline("--list").stdout
    for stage in STAGES.values():
        for parameter in stage.parameters.values():
            assert any(
                line.split()[:2] == [parameter.name, parameter.type] and line.endswith(parameter.meaning)
                for line in listed.splitlines()
            )


def test_another_run_on_the_task_is_exit_3(tiny_task, run_pipeline):
    with lock(task_dir(tiny_task) / ".lock"):
        result = run_pipeline("exploration", "--task", tiny_task)
    assert result.returncode == 3
    assert f"process {os.getpid()}" in result.stderr


@pytest.fixture
def copied_project(tiny_run, shared_folder, tmp_path):
    """A copy of the project's code and of the tiny run, to break things in: (folder, environment)."""
    folder = tmp_path / "project"
    for name in ("lib", "notebooks"):
        shutil.copytree(PROJECT_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in PROJECT_ROOT.glob("requirements*.txt"):
        shutil.copy(path, folder)
    shutil.copytree(shared_folder / "artifacts", folder / "artifacts")
    shutil.copytree(shared_folder / "reports", folder / "reports")
    environment = {name: value for name, value in os.environ.items() if name not in ("ARTIFACTS_DIR", "REPORTS_DIR")}
    return folder, environment | {"PYTHONPATH": str(folder)}


def break_notebook(folder, file, source):
    """Put a code cell behind the setup of a notebook."""
    path = folder / "notebooks" / file
    notebook = json.loads(path.read_text())
    cell = {
        "cell_type": "code",
        "id": "broken",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": source,
    }
    notebook["cells"].insert(3, cell)
    path.write_text(json.dumps(notebook))


def run_in(project, *arguments):
    """Run the pipeline of a copied project."""
    folder, environment = project
    command = [sys.executable, "-m", "lib.pipeline", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "kernel died"),
        ("raise ValueError('<b>the reason</b>')", "ValueError: <b>the reason</b>"),
    ],
)
def test_a_failed_notebook_is_published_and_the_served_model_stays(copied_project, source, said):
    folder, _ = copied_project
    break_notebook(folder, "04_evaluation.ipynb", source)
    before = (folder / "artifacts/tiny/deployment.json").read_text()
    result = run_in(copied_project, "evaluation", "--task", "tiny")
    assert result.returncode == 1
    assert said in result.stderr
    entry = read_json(folder / "artifacts/tiny/pipeline.json")["stages"]["evaluation"]
    assert entry["status"] == "failed"
    assert said in entry["error"]
    report = (folder / "reports/tiny/04_evaluation.html").read_text()
    assert 'role="alert"' in report
    assert said.replace("<b>", "&lt;b&gt;").replace("</b>", "&lt;/b&gt;") in report
    assert "<b>the reason</b>" not in report
    assert ">failed<" in (folder / "reports/index.html").read_text()
    assert (folder / "artifacts/tiny/deployment.json").read_text() == before
    assert run_in(copied_project, "evaluation", "--task", "tiny", "--dry-run").stdout.startswith("run ")


@pytest.mark.parametrize("lost", ["embeddings/efficientnet_lite0-*/part-*", "backbones/efficientnet_lite0-*/*.onnx"])
def test_what_01_left_and_is_lost_makes_it_run_again(copied_project, lost):
    folder, _ = copied_project
    next((folder / "artifacts").glob(lost)).unlink()
    options = ("--task", "tiny", "-p", "backbone", "efficientnet_lite0", "--dry-run")
    assert run_in(copied_project, *options).stdout.startswith("run   embedding")


def test_a_changed_notebook_runs_its_stage_and_what_depends_on_it(copied_project, tiny_folder):
    folder, _ = copied_project
    options = ("-p", "data_dir", str(tiny_folder), "-p", "backbone", "efficientnet_lite0", "--dry-run")
    break_notebook(folder, "02_exploration.ipynb", "pass")
    ran = [line for line in run_in(copied_project, *options).stdout.splitlines() if line.startswith("run")]
    assert ran == ["run   exploration: changed: notebook"]
    break_notebook(folder, "03_training.ipynb", "pass")
    ran = [
        line.split(":")[0] for line in run_in(copied_project, *options).stdout.splitlines() if line.startswith("run")
    ]
    assert ran == ["run   exploration", "run   training", "run   evaluation"]


def test_a_model_is_not_scored_on_a_test_part_drawn_after_its_training(copied_project, tiny_folder):
    folder, _ = copied_project
    options = ("-p", "data_dir", str(tiny_folder), "-p", "backbone", "efficientnet_lite0", "-p", "seed", "3")
    assert run_in(copied_project, "embedding", *options).returncode == 0
    before = (folder / "artifacts/tiny/deployment.json").read_text()
    result = run_in(copied_project, "evaluation", "--task", "tiny")
    assert result.returncode == 1
    assert "another split" in result.stderr
    assert (folder / "artifacts/tiny/deployment.json").read_text() == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_so_and_the_next_one_goes_on(copied_project, number, status):
    folder, environment = copied_project
    break_notebook(folder, "02_exploration.ipynb", "open('started', 'w').close(); import time; time.sleep(100)")
    command = [sys.executable, "-m", "lib.pipeline", "exploration", "--task", "tiny"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while not (folder / "notebooks/started").exists():
        assert time.monotonic() < deadline, "the notebook never started"
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    process.stdout.close()
    assert "last run was interrupted" in run_in(copied_project, "exploration", "--task", "tiny", "--dry-run").stdout
    shutil.copy(PROJECT_ROOT / "notebooks/02_exploration.ipynb", folder / "notebooks")
    assert run_in(copied_project, "exploration", "--task", "tiny").returncode == 0
