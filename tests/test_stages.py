import json
import os

import numpy as np
import pandas as pd
import pytest

from lib import stages
from lib.embeddings import write_part
from lib.errors import ParameterError
from lib.stages import STAGES, Record, check_needs, make_plan, notebook_hash
from lib.storage import task_dir, write_json, write_table

STAGE = STAGES["embedding"]


@pytest.fixture
def values(tmp_path, save_image):
    """Parameters of the embedding stage for a folder with one image."""
    save_image("data/a/1.png")
    return {name: p.default for name, p in STAGE.parameters.items()} | {"data_dir": str(tmp_path / "data"), "task": "t"}


def plan(values, *, force=False):
    return make_plan(STAGE, "t", values, Record.load("t"), force=force, upstream_runs=False)


@pytest.fixture
def done(values, tmp_path):
    """The embedding stage has succeeded with these values, and what it writes is there."""
    for path in (*STAGE.outputs("t", {}), STAGE.report("t")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    facts = {"backbone": {"name": "efficientnet_lite0", "fingerprint": "f", "export": "e"}}
    write_json(task_dir("t") / "dataset.json", facts)
    for folder in STAGE.outputs("t", {})[4:]:
        folder.mkdir(parents=True)
    write_table(task_dir("t") / "manifest.parquet", pd.DataFrame({"sha256": ["a", "b"]}))
    write_part(STAGE.outputs("t", {})[-1], {"a": np.ones(2), "b": np.ones(2)})
    first = plan(values)
    Record.load("t").update("embedding", status="succeeded", key=first.key, parts=first.parts)
    return values


def test_a_stage_that_has_not_run_runs(values):
    assert plan(values).reason == "it has not run yet"


def test_an_unchanged_stage_is_skipped(done):
    assert plan(done).reason == ""


def test_force_runs_it_all_the_same(done):
    assert plan(done, force=True).reason == "forced"


def test_another_parameter_a_new_image_or_another_library_run_it_again(done, save_image, monkeypatch):
    assert plan(done | {"seed": 1}).reason == "changed: parameters"
    monkeypatch.setattr(stages, "library_hash", lambda: "other")
    assert plan(done).reason == "changed: lib"
    monkeypatch.undo()


def test_a_new_image_runs_it_again(done, save_image):
    save_image("data/a/2.png")
    assert plan(done).reason == "changed: data"


def test_what_was_deleted_is_made_again(done):
    STAGE.report("t").unlink()
    assert plan(done).reason == "01_embedding.html is missing"


def test_weights_that_appear_in_the_torch_cache_run_auto_again(done):
    cache = stages.torch_cache()
    cache.mkdir(parents=True)
    (cache / stages.RESNET50_FILE).write_bytes(b"weights")
    assert "have come" in plan(done).reason


def test_lost_vectors_are_computed_again(done):
    next(STAGE.outputs("t", {})[-1].glob("part-*")).unlink()
    assert plan(done).reason == "cached vectors are missing or damaged"


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_a_stage_that_did_not_succeed_runs_again(done, status):
    Record.load("t").update("embedding", status=status, pid=os.getpid())
    assert "last run" in plan(done).reason


def test_a_stage_left_running_by_a_dead_process_was_interrupted(values):
    Record.load("t").start("embedding")
    entry = json.loads((task_dir("t") / "pipeline.json").read_text())["stages"]["embedding"]
    assert (entry["status"], entry["pid"]) == ("running", os.getpid())
    Record.load("t").update("embedding", pid=2**22 + 1)
    assert Record.load("t").stages["embedding"]["status"] == "interrupted"
    assert Record.load("t").key("embedding") is None


def test_a_stage_whose_needs_never_succeeded_is_bad_usage():
    with pytest.raises(ParameterError, match=r"training reads what embedding writes.*embedding training"):
        check_needs([STAGES["training"]], "t", Record.load("t"))
    check_needs([STAGES["embedding"], STAGES["training"]], "t", Record.load("t"))


def test_starting_again_forgets_the_old_success(done):
    record = Record.load("t")
    record.start("embedding")
    assert record.key("embedding") is None


def test_a_notebooks_hash_follows_its_text_and_not_its_outputs(tmp_path):
    notebook = json.loads(STAGE.notebook.read_text())
    path = tmp_path / "n.ipynb"

    def hash_of():
        path.write_text(json.dumps(notebook))
        return notebook_hash(path)

    before = hash_of()
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["outputs"], code["execution_count"] = [{"output_type": "stream", "name": "stdout", "text": "x"}], 3
    assert hash_of() == before
    notebook["cells"][0]["source"] = [*notebook["cells"][0]["source"], " "]
    assert hash_of() != before


def test_stages_stand_in_the_order_of_their_needs():
    names = list(STAGES)
    for stage in STAGES.values():
        assert all(names.index(need) < names.index(stage.name) for need in stage.needs)
        assert stage.question.endswith("?")
        assert stage.title
