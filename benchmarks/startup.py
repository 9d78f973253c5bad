"""How soon and how small: the service from its start to ready, and what importing each part costs.

Needs a promoted model: run ./run_pipeline.sh first.
"""

import argparse
import subprocess
import sys
import time
from statistics import median

from measuring import ROOT, machine, table
from service import cpu_seconds, resident_megabytes, running

IMPORTS = {
    "what the service imports": "import serve; import onnxruntime; from lib.registry import store; store._skops()",
    "what 02 to 04 import": "from lib import display, evaluation, exploration, plots, quality, search, tasks",
    "what 01 imports": "from lib import backbones, datasets, display, embeddings, plots, tasks; import lib.precision",
    "torch and torchvision": "import torch, torchvision",
}


def start_service(task: str, port: int) -> dict:
    """Start serve.py, wait until it is ready, and stop it: wall and CPU seconds until then, resident MB."""
    started = time.perf_counter()
    with running(task, port) as process:
        wall = time.perf_counter() - started
        return {"wall": wall, "cpu": cpu_seconds(process.pid), "resident": resident_megabytes(process.pid)}


def import_seconds(code: str) -> dict:
    """Seconds and peak MB of a fresh interpreter that imports something, and whether torch came along."""
    measured = "import resource, sys; u = resource.getrusage(resource.RUSAGE_SELF); "
    measured += "print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1000, 'torch' in sys.modules)"
    command = [sys.executable, "-c", f"{code}\n{measured}"]
    words = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {"cpu": float(words[0]), "peak": float(words[1]), "torch": words[2] == "True"}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", default="sample")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    starts = [start_service(options.task, options.port) for _ in range(options.rounds)]
    figures = [median(start[key] for start in starts) for key in ("wall", "cpu", "resident")]
    print(f"{machine()}; medians of {options.rounds}.\n")
    print(table(["service", "seconds until ready", "CPU s", "resident MB"], [("serve.py", *figures)]))
    rows = []
    for name, code in IMPORTS.items():
        runs = [import_seconds(code) for _ in range(options.rounds)]
        rows.append((name, *(median(run[key] for run in runs) for key in ("cpu", "peak")), runs[0]["torch"]))
    print("\n" + table(["import", "CPU s", "peak MB", "torch comes along"], rows))


if __name__ == "__main__":
    main()
