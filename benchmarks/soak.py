"""Half an hour of mixed traffic with a new model each minute: what wears out, and what an answer costs at the end.

Four clients predict one file and eight, ask for explanations, give feedback, read /models, /readyz and /metrics, send
broken images, and now and then half a request, a slow one or one that they abandon. Meanwhile a second version is
promoted and rolled back in turn. Works on a copy of the artifacts. Exits 1 at any unexpected status, or if the service
dies.

Needs a promoted model: run ./run_pipeline.sh first.
"""

import argparse
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from measuring import ROOT, machine, table
from service import n_descriptors, n_threads, resident_megabytes, running
from traffic import BROKEN, ENDED, SECOND, Answer, Traffic, client

N_CLIENTS = 4
BETWEEN_READINGS = 5.0  # seconds


def watch(traffic: Traffic, process: subprocess.Popen, seconds: float, between_swaps: float) -> np.ndarray:
    """Swap models and read what the service takes, until time is over or it dies.

    Returns
    -------
    ndarray of shape (n_readings, 4), float64
        Seconds since the start, resident MB, descriptors, threads.
    """
    readings, n_swaps = [], 0
    while (now := time.monotonic() - traffic.started) < seconds and process.poll() is None:
        pid = process.pid
        readings.append((now, resident_megabytes(pid), n_descriptors(pid), n_threads(pid)))
        if now > (n_swaps + 1) * between_swaps:
            traffic.swap(n_swaps)
            n_swaps += 1
        time.sleep(BETWEEN_READINGS)
    return np.array(readings)


def load(process: subprocess.Popen, traffic: Traffic, seconds: float, between_swaps: float) -> np.ndarray:
    """Run the clients while watching; the readings."""
    stopped = threading.Event()
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        clients = [pool.submit(client, traffic, seed, stopped) for seed in range(N_CLIENTS)]
        try:
            readings = watch(traffic, process, seconds, between_swaps)
        finally:
            stopped.set()
        for one in clients:
            one.result()
    return readings


def copy_artifacts(task: str, folder: Path) -> None:
    """Copy a task and the backbones, with the champion once more under another name."""
    from lib import registry
    from lib.errors import ArtifactError
    from lib.storage import task_dir

    try:
        champion = registry.champion(task)
    except ArtifactError as error:
        sys.exit(str(error))
    artifacts = task_dir(task).parent
    for name in (task, "backbones"):
        shutil.copytree(artifacts / name, folder / name)
    shutil.copytree(champion.folder, folder / champion.folder.relative_to(artifacts).with_name(SECOND))


def windows_table(answers: list[Answer], readings: np.ndarray, seconds: float, window: float) -> tuple[str, float]:
    """A row for each window of time; and p99 of a prediction in the last one over the first."""
    rows = []
    for start in np.arange(0, seconds, window):
        found = [answer for answer in answers if start <= answer.at < start + window]
        n_unexpected = sum(answer.status != answer.expected for answer in found)
        times = [1000 * answer.seconds for answer in found if answer.name == "predict one"]
        middle, late = np.percentile(times, [50, 99]) if times else (float("nan"),) * 2
        inside = readings[(readings[:, 0] >= start) & (readings[:, 0] < start + window), 1:]
        taken = np.median(inside, axis=0) if len(inside) else [float("nan")] * 3
        name = f"{start / 60:g} to {min(start + window, seconds) / 60:g}"
        rows.append((name, len(found), n_unexpected, float(middle), float(late), *map(float, taken)))
    columns = ["minutes", "requests", "unexpected", "p50, ms", "p99, ms", "resident MB", "descriptors", "threads"]
    return table(columns, rows), rows[-1][4] / rows[0][4]


def statuses_table(answers: list[Answer]) -> str:
    """How often what was asked, and what came."""
    names = {BROKEN: "connection broke", ENDED: "ended"}
    counts = Counter((answer.name, answer.status) for answer in answers)
    return table(
        ["asked", "status", "times"],
        [(name, names.get(status, status), n) for (name, status), n in sorted(counts.items())],
    )


def slope(readings: np.ndarray) -> float:
    """MB a minute over the last two thirds of the readings, by least squares."""
    late = readings[len(readings) // 3 :]
    return float(np.polyfit(late[:, 0] / 60, late[:, 1], 1)[0]) if len(late) > 1 else float("nan")


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--window", type=float, default=5, help="minutes of a row of the table (default: %(default)g)")
    parser.add_argument("--swap", type=float, default=1, help="minutes between two models (default: %(default)g)")
    parser.add_argument("--task", default="sample")
    parser.add_argument("--port", type=int, default=8767)
    return parser.parse_args()


def main() -> int:
    """Print the tables; 1 if an answer was unexpected or the service died."""
    options = read_options()
    images = [path.read_bytes() for path in sorted((ROOT / "data" / "sample").glob("*/*.png"))[::10]]
    traffic = Traffic(options.port, secrets.token_hex(), images)
    seconds = 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        copy_artifacts(options.task, Path(folder, "artifacts"))
        environment = {"ARTIFACTS_DIR": f"{folder}/artifacts", "PRODUCTION_DIR": f"{folder}/production"}
        with running(options.task, options.port, SERVE_TOKEN=traffic.token, **environment) as process:
            traffic.started = time.monotonic()
            readings = load(process, traffic, seconds, 60 * options.swap)
            died = process.poll() is not None
    windows, ratio = windows_table(traffic.answers, readings, seconds, 60 * options.window)
    print(f"{machine()}; {N_CLIENTS} clients.\n\n{windows}\n\n{statuses_table(traffic.answers)}\n")
    print(f"Resident memory grew by {slope(readings):.3g} MB a minute over the last two thirds.", end=" ")
    print(f"p99 of a prediction in the last window over the first: {ratio:.2f}.")
    unexpected = [answer for answer in traffic.answers if answer.status != answer.expected]
    for answer in unexpected[:20]:
        print(f"after {answer.at:.1f} s: {answer.name} got {answer.status}, not {answer.expected}", file=sys.stderr)
    if died:
        print("The service died.", file=sys.stderr)
    return int(bool(unexpected) or died)


if __name__ == "__main__":
    sys.exit(main())
