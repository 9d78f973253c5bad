"""The notebooks: their form, and that they run top to bottom as committed."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import TINY_CLASSES
from streams import copied_task, taught, unseen

from lib import registry
from lib.learning import Sources, gather
from lib.parameters import cell_source, read_notebook, read_parameters
from lib.prediction import Predictor
from lib.production import ProductionLog, default_url
from lib.stages import STAGES
from lib.storage import PROJECT_ROOT, reports_dir, task_dir

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
BY_DEFAULT = [stage.notebook for stage in STAGES.values() if stage.by_default]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    """Sources of a notebook's code cells."""
    return [cell_source(cell) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]


def headings(path):
    """Second-level headings of a notebook, in order."""
    cells = [cell_source(cell) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown"]
    return [line[3:] for cell in cells for line in cell.splitlines() if line.startswith("## ")]


def test_every_notebook_is_a_stage():
    assert [path.name for path in NOTEBOOKS] == [stage.file for stage in STAGES.values()]


@each_notebook
def test_it_opens_with_title_question_and_what_it_reads_and_writes(path):
    notebook = read_notebook(path)
    first = cell_source(notebook["cells"][0])
    assert first.startswith("# ")
    assert re.search(r"^> .+\?$", first, re.MULTILINE)
    assert "| reads | writes |" in first
    assert notebook["metadata"]["title"]


@each_notebook
def test_it_has_one_typed_parameters_cell_right_behind_the_title(path):
    assert "parameters" in read_notebook(path)["cells"][1]["metadata"]["tags"]
    parameters = read_parameters(path)
    assert parameters["task"].default == "sample"
    assert all(parameter.meaning for parameter in parameters.values())


@each_notebook
def test_papermill_finds_the_same_parameters(path):
    from papermill import inspect_notebook

    assert list(inspect_notebook(str(path))) == list(read_parameters(path))


@each_notebook
def test_it_ends_with_checks_and_what_was_written(path):
    assert "Checks" in headings(path)
    assert headings(path)[-1] == "Written"
    assert any("assert " in source for source in code_cells(path))
    assert "display.written(" in code_cells(path)[-1]


@each_notebook
def test_its_cells_are_short_and_define_nothing(path):
    sources = code_cells(path)
    assert 10 <= len(sources) <= 20
    for source in sources:
        tree = ast.parse(source)
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert not [node for node in tree.body if isinstance(node, ast.While)]


@each_notebook
def test_its_outputs_are_not_committed(path):
    for cell in read_notebook(path)["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@each_notebook
def test_prose_holds_no_measured_number(path):
    """Percentages and scores are computed: the parameters change, prose does not."""
    for cell in read_notebook(path)["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.search(r"\b0\.\d\d+", cell_source(cell))


def test_one_cell_of_each_notebook_is_its_headline():
    for path in NOTEBOOKS:
        tagged = [cell for cell in read_notebook(path)["cells"] if "headline" in cell["metadata"].get("tags", [])]
        assert len(tagged) == 1


def test_only_the_last_notebook_that_makes_a_model_reads_the_test_split_to_judge():
    for path in BY_DEFAULT[:-1]:
        text = json.dumps(code_cells(path))
        assert "open_test_split" not in text
        assert '"test"]' not in text.replace("\\", "")
    assert sum("open_test_split" in source for source in code_cells(BY_DEFAULT[-1])) == 1


def test_the_notebooks_run_top_to_bottom_as_committed(shared_environment, tmp_path, lite0, shared_folder):
    environment = shared_environment | {
        "ARTIFACTS_DIR": str(tmp_path / "artifacts"),
        "REPORTS_DIR": str(tmp_path / "r"),
    }
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "backbones").symlink_to(shared_folder / "artifacts" / "backbones")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout",
        "600",
        "-q",
    ]
    command += ["-p", "no:cacheprovider", "-W", "default", *map(str, BY_DEFAULT)]
    result = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    n_cells = sum(len(code_cells(path)) for path in BY_DEFAULT)
    assert result.returncode == 0, result.stdout[-5000:]
    assert f"{n_cells} passed" in result.stdout
    deployment = json.loads((tmp_path / "artifacts/sample/deployment.json").read_text())
    metrics = json.loads((tmp_path / f"artifacts/sample/models/{deployment['champion']}/metrics.json").read_text())
    assert metrics["test"]["accuracy"]["value"] >= 0.83


@pytest.mark.parametrize("path", BY_DEFAULT, ids=lambda path: path.stem)
def test_torch_is_not_imported_where_nothing_is_computed(path, tiny_task, tiny_folder, tmp_path):
    """Every vector is cached and the backbone exported: then no stage pays for torch."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parameters = {"task": tiny_task, "data_dir": str(tiny_folder), "backbone": "efficientnet_lite0"}
    known = read_parameters(path)
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items() if name in known)
    cells = [cell_source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # Without the last cell nothing is written, and the shared run stays what it is.
    script = "\n".join([cells[0], given, *cells[1:-1], "import sys", "sys.exit('torch' in sys.modules)"])
    (tmp_path / "cells.py").write_text(script, encoding="utf-8")
    result = subprocess.run([sys.executable, str(tmp_path / "cells.py")], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.fixture
def production(tiny_task, tmp_path, monkeypatch):
    """A copy of the tiny task, and labels from production, some of a new class and some doubtful ones."""
    copied_task(tiny_task, tmp_path, monkeypatch)
    predictor = Predictor.from_version(registry.champion(tiny_task))
    log = ProductionLog(tiny_task, default_url(tiny_task))
    log.open()
    for label in (*TINY_CLASSES, "Sneaker"):
        taught(log, predictor, unseen(label, 10))
    (image, _), *_ = unseen("Bag", 1)
    taught(log, predictor, [(image, "Trouser")])
    log.close()
    return tiny_task


def test_feedback_becomes_a_challenger_and_is_compared_by_the_pipeline(production, run_pipeline):
    own = {name: os.environ[name] for name in ("ARTIFACTS_DIR", "REPORTS_DIR", "PRODUCTION_DIR")}
    result = run_pipeline("retraining", "--task", production, environment=own)
    assert result.returncode == 0, result.stderr
    pointer = registry.deployment(production)
    challenger = registry.evaluated(production, pointer["challenger"])
    assert "Sneaker" in challenger.card["classes"]
    text = (reports_dir() / production / "06_retraining.html").read_text()
    for told in ("people gave it different labels", "New classes: Sneaker", "may it serve", "challenger"):
        assert told.lower() in text.lower()
    again = run_pipeline("retraining", "--task", production, environment=own)
    assert "skipped, nothing changed" in again.stdout
    result = run_pipeline("comparison", "--task", production, environment=own)
    assert result.returncode == 0, result.stderr
    facts = json.loads((task_dir(production) / "comparison.json").read_text())
    assert (facts["first"], facts["second"]) == (pointer["champion"], pointer["challenger"])
    assert facts["verdict"]["state"] in ("promote", "keep", "wait")
    index = (reports_dir() / "index.html").read_text()
    assert "06_retraining.html" in index
    assert "07_comparison.html" in index


def test_without_a_label_retraining_says_so_in_its_report(tiny_task, tmp_path, monkeypatch, run_pipeline):
    copied_task(tiny_task, tmp_path, monkeypatch)
    own = {name: os.environ[name] for name in ("ARTIFACTS_DIR", "REPORTS_DIR", "PRODUCTION_DIR")}
    result = run_pipeline("retraining", "--task", tiny_task, environment=own)
    assert result.returncode == 1
    assert "nothing new to learn" in result.stderr


def test_a_retraining_learns_the_images_of_production_too(production):
    champion = registry.champion(production)
    command = [sys.executable, "-m", "lib.learning", "--task", production, "--retrain"]
    result = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    after = registry.champion(production)
    assert after.name != champion.name
    assert after.card["classes"] == sorted([*champion.card["classes"], "Sneaker"])
    assert after.card["data"]["n"]["train"] > champion.card["data"]["n"]["train"]
    assert after.metrics["test"]["classes"]["Sneaker"]["n"] > 0
    assert len(gather(production, Sources()).additions) == 0  # what was said is in the data now
