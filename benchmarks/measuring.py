"""What all benchmarks share: the machine, a contender in a process of its own, medians side by side, tables."""

import contextlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """One line on what it ran on."""
    from lib.inference import n_cores
    from lib.provenance import processor, utc_now

    return (
        f"{n_cores()} cores, {processor()}, {platform.system()}, Python {platform.python_version()}, {utc_now()[:10]}"
    )


def matmul_gflops(n_threads: int, size: int = 3072, repeats: int = 5) -> float:
    """What the cores reach in float32 at best: GFLOP/s of NumPy's matrix product, the best of some."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    seconds = []
    with threadpool_limits(n_threads):
        for _ in range(repeats):
            started = perf_counter()
            a @ a
            seconds.append(perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def peak_megabytes() -> float:
    """Largest resident memory this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it forked
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class Contender:
    """A process of its own that runs one thing again and again, so that contenders can take turns.

    Parameters
    ----------
    name : str
    script : str
        The benchmark's own file; called as `script --contender *arguments`, it ends in `serve`.
    arguments : str
    environment : dict
    """

    def __init__(self, name: str, script: str, *arguments: str, environment: dict[str, str] | None = None):
        self.name = name
        self.runs: list[dict] = []
        self.process = subprocess.Popen(
            [sys.executable, script, "--contender", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        )
        self.error = self._ask("ready").get("error", "")

    def _ask(self, word: str) -> dict:
        """Send a word, wait for the answer."""
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            return {"error": "it ended"}

    def run(self, word: str = "run") -> None:
        """Run once and keep what it cost; nothing where it does not work here."""
        if self.error:
            return
        answer = self._ask(word)
        self.error = answer.get("error", "")
        if not self.error:
            self.runs.append(answer)

    def median(self, key: str) -> float:
        """Median of a figure over the runs; nan where there is none."""
        return median(run[key] for run in self.runs) if self.runs else float("nan")

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def serve(prepare: Callable[[], Callable[[], object]]) -> None:
    """The other side of `Contender`: prepare once, then run at each word and say what it cost.

    What `prepare` returns is called once before, unmeasured, to warm up.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(**facts: object) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    run = None
    for line in sys.stdin:
        try:
            if line.strip() == "ready":
                run = prepare()
                run()
                answer(ready=True)
                continue
            wall, cpu = perf_counter(), process_time()
            result = run()
            facts = {"wall": perf_counter() - wall, "cpu": process_time() - cpu, "peak": peak_megabytes()}
            answer(**facts | (result if isinstance(result, dict) else {}))
        except Exception as error:  # whatever a peer raises: the table names it
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {error}".splitlines()[0][:150])


def take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    """Run every contender once a round, so that what disturbs one disturbs all."""
    for number in range(rounds):
        for contender in contenders:
            contender.run()
        print(f"  round {number + 1} of {rounds}", file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers get three significant digits."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: object) -> str:
    """A value as text."""
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
