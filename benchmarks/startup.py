"""How soon and how small: the service from its start to ready, and what importing each part costs.

Needs a promoted model: run ./run_pipeline.sh first.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from statistics import median

from measuring import ROOT, machine, table

IMPORTS = {
    "what the service imports": "import serve; import onnxruntime; from lib.registry import store; store._skops()",
    "what 02 to 04 import": "from lib import display, evaluation, exploration, plots, quality, search, tasks",
    "what 01 imports": "from lib import backbones, datasets, display, embeddings, plots, tasks; import lib.precision",
    "torch and torchvision": "import torch, torchvision",
}


def start_service(task: str, port: int) -> dict:
    """Start serve.py, wait until it is ready, and stop it: wall and CPU seconds until then, resident MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "serve.py", "--task", task, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - started < 20:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    json.load(answer)
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit("The service ended at once; run ./run_pipeline.sh first, or see serve.py's message.")
                time.sleep(0.02)
        else:
            sys.exit(f"The service has no model of task {task!r} to be ready with; run ./run_pipeline.sh first.")
        wall = time.perf_counter() - started
        with open(f"/proc/{process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{process.pid}/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        return {"wall": wall, "cpu": cpu, "resident": resident}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


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
