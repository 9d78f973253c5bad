"""The benchmarks are run by hand; here only that each starts, says what it measures, and is in their README."""

import subprocess
import sys

import pytest

from lib.storage import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "benchmarks"
SHARED = ("measuring.py", "mutants.py", "oddities.py", "service.py", "traffic.py")
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


@pytest.fixture
def mutants(measuring):
    """The generator of mutated images."""
    import mutants

    return mutants


def test_a_mutant_is_made_again_from_its_number_and_hardly_ever_left_as_it_was(mutants):
    numbers = range(10 * len(mutants.KINDS))
    made = [mutants.mutant(number) for number in numbers]
    assert made == [mutants.mutant(number) for number in numbers]
    assert {kind for kind, _ in made} == set(mutants.KINDS)
    sound = {data for format in mutants.FORMATS for data in mutants.bases(format)}
    unchanged = [kind for kind, data in made if data in sound]
    assert unchanged.count("sound") == 10
    assert len(unchanged) < 15


def test_a_file_is_cut_where_its_parts_begin(mutants):
    for format in mutants.FORMATS:
        for data in mutants.bases(format):
            assert b"".join(mutants.parts(data)) == data
    kinds = [part[4:8] for part in mutants.parts(mutants.bases("PNG")[2])[1:]]
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    markers = [part[:2] for part in mutants.parts(mutants.bases("JPEG")[2])[1:]]
    assert markers[:2] == [b"\xff\xe0", b"\xff\xdb"]  # APP0, then quantisation tables
    assert markers[-2] == b"\xff\xda"  # the start of the scan, and behind it the pixels
    assert mutants.parts(b"") == [b""]


def test_the_slope_of_memory_is_that_of_the_second_half(measuring):
    import mutations
    import numpy as np

    memory = np.array([(0, 100, 0), (100, 300, 0), (200, 300.1, 0), (300, 300.2, 0)])
    assert mutations.slope(memory) == pytest.approx(1000)  # 0.1 MB in 100 requests
