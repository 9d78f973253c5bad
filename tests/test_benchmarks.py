"""The benchmarks are run by hand; here only that each starts, says what it measures, and is in their README."""

import subprocess
import sys

import pytest

from lib.storage import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "benchmarks"
SHARED = ("measuring.py", "service.py")
PROGRAMS = sorted(path for path in FOLDER.glob("*.py") if path.name not in SHARED)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_benchmark_says_what_it_measures(path):
    result = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "usage: " in result.stdout
    assert len(result.stdout) > 250


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_the_readme_keeps_its_last_table(path):
    sections = (FOLDER / "README.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = [text for text in sections if f"benchmarks/{path.name}" in text.splitlines()[0]]
    assert "|---|" in section


@pytest.fixture
def measuring(monkeypatch):
    """The module that the benchmarks share."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import measuring

    return measuring


CONTENDER = """
import sys, time
sys.path.insert(0, {folder!r})
from measuring import serve
def prepare():
    print("loading")
    seconds = iter([0.0, 0.3, 0.1, 0.2])
    def run():
        print("working")
        pause = next(seconds, None)
        if pause is None:
            raise ValueError("no more")
        time.sleep(pause)
        return {{"best": pause}}
    return run
serve(prepare)
"""


def test_a_contender_is_timed_in_a_process_of_its_own(measuring, tmp_path):
    script = tmp_path / "contender.py"
    script.write_text(CONTENDER.format(folder=str(FOLDER)))
    contender = measuring.Contender("slow", str(script))
    measuring.take_turns([contender], 3)
    assert [run["best"] for run in contender.runs] == [0.3, 0.1, 0.2]
    assert contender.median("wall") >= 0.2  # it slept so long, of which the processor knows nothing
    assert contender.median("cpu") < 0.2
    contender.run()
    assert contender.error == "ValueError: no more"
    contender.close()


def test_a_contender_that_cannot_start_says_so(measuring, tmp_path):
    (tmp_path / "broken.py").write_text("raise SystemExit(1)")
    contender = measuring.Contender("broken", str(tmp_path / "broken.py"))
    assert contender.error == "it ended"
    contender.run()
    assert contender.runs == []
    contender.close()


def test_numbers_have_three_digits(measuring):
    rows = [("a", 1234.5, 0.12345, float("nan"), 7)]
    assert measuring.table(["x", "y", "z", "n", "k"], rows).splitlines()[-1] == "| a | 1,234 | 0.123 |  | 7 |"


def test_the_limit_is_a_number_of_operations_a_second(measuring):
    assert 0.1 < measuring.matmul_gflops(1, size=256, repeats=2) < 10_000
