"""10,000 mutated images: what the service answers to files that nobody would send on purpose.

Two clients send seeded mutants of JPEG, PNG, WEBP, BMP, GIF and TIFF files over connections that stay open. Exits 1 if
an answer is 5xx, a connection breaks, the service dies, or its memory grows by more than 1 kB a request: after each
100 requests, while none is at work, resident memory is read, and its slope over the second half is by least squares.

Needs a promoted model: run ./run_pipeline.sh first.
"""

import argparse
import http.client
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import machine, table
from mutants import KINDS, mutant
from service import resident_megabytes, running

N_CLIENTS = 2
ROUND = 100  # requests between two readings of memory
BROKEN = 0  # stands for a status where a connection broke
MAX_SLOPE = 1000  # bytes a request


@dataclass(frozen=True)
class Answer:
    """What came of a mutant."""

    number: int
    kind: str
    status: int
    seconds: float

    @property
    def is_bad(self) -> bool:
        return self.status == BROKEN or self.status >= 500


class Clients:
    """Some clients, each with a connection of its own that stays open."""

    def __init__(self, port: int):
        self.port, self.own = port, threading.local()

    def send(self, number: int) -> Answer:
        """Send a mutant and read the whole answer."""
        kind, data = mutant(number)
        if not hasattr(self.own, "connection"):
            self.own.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        started = time.perf_counter()
        try:
            self.own.connection.request("POST", "/predict", data)
            response = self.own.connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            self.own.connection.close()  # and a new one is made by the next request
            status = BROKEN
        return Answer(number, kind, status, time.perf_counter() - started)


def send_all(n: int, first: int, process: subprocess.Popen, port: int) -> tuple[list[Answer], np.ndarray]:
    """Send mutants in rounds, as long as the service lives.

    Returns
    -------
    list of Answer
    ndarray of shape (n_rounds + 1, 3), float64
        Requests so far, resident MB, and at most so far.
    """

    def read() -> tuple[float, ...]:
        return len(answers), resident_megabytes(process.pid), resident_megabytes(process.pid, peak=True)

    clients, answers = Clients(port), []
    memory = [read()]
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        for start in range(0, n, ROUND):
            answers += pool.map(clients.send, range(first + start, first + min(start + ROUND, n)))
            if process.poll() is not None:
                break
            memory.append(read())
            if start % 1000 == 0:
                print(f"  {len(answers):,} of {n:,}, {memory[-1][1]:.0f} MB", file=sys.stderr, flush=True)
    return answers, np.array(memory)


def slope(memory: np.ndarray) -> float:
    """Bytes a request over the second half of the readings, by least squares; nan where there are too few."""
    late = memory[len(memory) // 2 :]
    return float(np.polyfit(late[:, 0], late[:, 1], 1)[0] * 1e6) if len(late) > 1 else float("nan")


def kinds_table(answers: list[Answer]) -> str:
    """Per kind: how many got each status, and the slowest answer."""
    statuses = sorted({answer.status for answer in answers})
    rows = []
    for kind in KINDS:
        found = [answer for answer in answers if answer.kind == kind]
        counts = Counter(answer.status for answer in found)
        slowest = 1000 * max((answer.seconds for answer in found), default=float("nan"))
        rows.append((kind, *(counts[status] or "" for status in statuses), slowest))
    total = Counter(answer.status for answer in answers)
    rows.append(("all", *(total[status] for status in statuses), 1000 * max(answer.seconds for answer in answers)))
    names = ["connection broke" if status == BROKEN else status for status in statuses]
    return table(["mutants", *map(str, names), "slowest, ms"], rows)


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant (default: %(default)s)")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the first mutant to a file, send nothing")
    parser.add_argument("--task", default="sample")
    parser.add_argument("--port", type=int, default=8766)
    return parser.parse_args()


def main() -> int:
    """Print the tables; 1 if the service broke its promises."""
    options = read_options()
    if options.write:
        kind, data = mutant(options.first)
        options.write.write_bytes(data)
        print(f"{options.write}: mutant {options.first}, {kind}, {len(data):,} bytes")
        return 0
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(options.task, options.port, PRODUCTION_DIR=folder) as process,
    ):
        answers, memory = send_all(options.n, options.first, process, options.port)
        died = process.poll() is not None
    print(f"{machine()}; {len(answers):,} mutants in {time.perf_counter() - started:.0f} s, {N_CLIENTS} clients.\n")
    print(kinds_table(answers))
    growth = slope(memory)
    columns = ["resident MB when ready", "halfway", "at the end", "at most", "growth, bytes a request"]
    print("\n" + table(columns, [(memory[0, 1], memory[len(memory) // 2, 1], *memory[-1, 1:], growth)]))
    bad = [answer for answer in answers if answer.is_bad]
    for answer in bad:
        print(f"mutant {answer.number} ({answer.kind}): {answer.status or 'connection broke'}", file=sys.stderr)
    if died:
        print(f"The service died after {len(answers):,} mutants.", file=sys.stderr)
    return int(bool(bad) or died or growth > MAX_SLOPE)


if __name__ == "__main__":
    sys.exit(main())
