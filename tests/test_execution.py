import nbformat
import pytest

from lib import execution
from lib.errors import StageError


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook of code cells; the first one holds parameters."""

    def write(*sources):
        cells = [nbformat.v4.new_code_cell(source) for source in ("x: int = 1  # a number", *sources)]
        cells[0].metadata["tags"] = ["parameters"]
        path = tmp_path / "notebooks" / "n.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write


def test_a_notebook_runs_in_its_own_folder_with_its_parameters(notebook, tmp_path, capsys):
    source = notebook(
        "import sys; from pathlib import Path; print(x, Path.cwd().name)", "print('bar', file=sys.stderr)"
    )
    executed = execution.run_notebook(source, tmp_path / "run" / "n.ipynb", {"x": 7})
    assert executed.cells[2].outputs[0].text == "7 notebooks\n"
    assert "bar" in capsys.readouterr().err
    assert nbformat.read(source, as_version=4).cells[1].outputs == []
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["n.ipynb"]


def test_a_failing_cell_is_told_and_its_notebook_kept(notebook, tmp_path):
    source = notebook("print('before')", "raise ValueError('the reason')", "print('after')")
    with pytest.raises(StageError, match=r"n\.ipynb: ValueError: the reason"):
        execution.run_notebook(source, tmp_path / "run" / "n.ipynb", {"x": 1})
    outputs = [o for c in nbformat.read(tmp_path / "run" / "n.ipynb", 4).cells for o in c.get("outputs", [])]
    assert [output.get("ename", output.get("text")) for output in outputs] == ["before\n", "ValueError"]


def test_a_kernel_that_dies_is_told(notebook, tmp_path):
    source = notebook("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StageError, match="kernel died"):
        execution.run_notebook(source, tmp_path / "run" / "n.ipynb", {"x": 1})
    assert (tmp_path / "run" / "n.ipynb").exists()


def test_a_cell_that_never_ends_is_stopped(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "CELL_TIMEOUT", 1)
    source = notebook("import time; time.sleep(60)")
    with pytest.raises(StageError, match="longer than 1 seconds"):
        execution.run_notebook(source, tmp_path / "run" / "n.ipynb", {"x": 1})
