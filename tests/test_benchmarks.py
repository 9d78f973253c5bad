"""The benchmarks are run by hand; here only that each starts, says what it measures, and is in their README."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.storage import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "benchmarks"
SHARED = (
    "load.py",
    "measuring.py",
    "mutants.py",
    "oddities.py",
    "service.py",
    "traffic.py",
    "tree.py",
)  # parts of programs
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


@pytest.fixture
def load(monkeypatch):
    """The load generator."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import load

    return load


async def answer_slowly(reader, writer, turn, seen):
    """A service that takes 20 ms a request, one at a time, and sends every third away."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            seen.append(await reader.readexactly(length))
            refused = len(seen) % 3 == 0
            async with turn:
                await asyncio.sleep(0.02)
            first = b"503 Service Unavailable\r\nRetry-After: 1" if refused else b"200 OK"
            writer.write(b"HTTP/1.1 " + first + b"\r\nContent-Length: 2\r\n\r\n{}")
    writer.close()


def run(coroutine):
    """What a coroutine returns, in a thread of its own: the browser's tests leave a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


async def open_load(load, folder, seconds, rate):
    """The load after so many seconds at a rate, and what the service received."""
    turn, seen = asyncio.Lock(), []
    server = await asyncio.start_server(lambda *streams: answer_slowly(*streams, turn, seen), "127.0.0.1", 0)
    async with server:
        one = load.Load(server.sockets[0].getsockname()[1], folder, seconds)
        await one.open(rate, seed=0)
    return one, seen


def test_an_open_loop_counts_from_when_a_request_was_due(load, tmp_path):
    (tmp_path / "one.png").write_bytes(b"a picture")
    one, seen = run(open_load(load, tmp_path, 0.5, 200))
    assert len(one.answers) == len(seen) == len(set(seen)) > 60  # the service answers 25 in that time
    assert all(b"a picture" in body for body in seen)
    assert max(over - due for _, due, _, over, _ in one.answers) > 0.02 * len(seen) - 0.5  # the wait in line counts
    assert {(status, says_when) for status, *_, says_when in one.answers} == {(200, False), (503, True)}


async def lone_load(load, folder, seconds):
    """The answers to a lone client, and what the service received."""
    turn, seen = asyncio.Lock(), []
    server = await asyncio.start_server(lambda *streams: answer_slowly(*streams, turn, seen), "127.0.0.1", 0)
    async with server:
        return await asyncio.to_thread(load.alone, server.sockets[0].getsockname()[1], folder, seconds), seen


def test_a_lone_client_waits_for_each_answer(load, tmp_path):
    (tmp_path / "one.png").write_bytes(b"a picture")
    answers, seen = run(lone_load(load, tmp_path, 0.5))
    assert 5 < len(answers) == len(seen) == len(set(seen)) <= 25  # the service takes 20 ms
    assert all(b"a picture" in body for body in seen)
    assert all(due == sent <= over - 0.02 for _, due, sent, over, _ in answers)
    assert {(status, says_when) for status, *_, says_when in answers} == {(200, False), (503, True)}


def test_a_lone_client_gives_up_in_time_and_asks_again(load, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "TIMEOUT", 0.01)
    (tmp_path / "one.png").write_bytes(b"a picture")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answers = load.alone(silent.getsockname()[1], tmp_path, 0.2)
    assert len(answers) > 5
    assert {answer[0] for answer in answers} == {"timeout"}


def test_an_answer_that_does_not_come_in_time_is_a_timeout(load, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "TIMEOUT", 0.3)
    (tmp_path / "one.png").write_bytes(b"a picture")
    one, _ = run(open_load(load, tmp_path, 0.5, 200))
    assert "timeout" in {answer[0] for answer in one.answers}
