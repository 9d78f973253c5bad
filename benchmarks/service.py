"""The service as a process that benchmarks load, and what it takes of the machine meanwhile."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from measuring import ROOT


@contextlib.contextmanager
def running(task: str, port: int, **environment: str) -> Iterator[subprocess.Popen]:
    """Run serve.py with more of an environment, from when it is ready until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "serve.py", "--task", task, "--port", str(port)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(process, task, port)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_ready(process: subprocess.Popen, task: str, port: int) -> None:
    """Return at the first /readyz with 200; end the program where there is none within 20 seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                json.load(answer)
            return
        except OSError:
            if process.poll() is not None:
                sys.exit("The service ended at once; run ./run_pipeline.sh first, or see serve.py's message.")
            time.sleep(0.02)
    sys.exit(f"The service has no model of task {task!r} to be ready with; run ./run_pipeline.sh first.")


def cpu_seconds(pid: int) -> float:
    """Of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int, *, peak: bool = False) -> float:
    """Of a process, now or at most so far."""
    return _status(pid, "VmHWM" if peak else "VmRSS") * 1024 / 1e6


def n_threads(pid: int) -> int:
    return _status(pid, "Threads")


def n_descriptors(pid: int) -> int:
    """Open files and sockets of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _status(pid: int, key: str) -> int:
    """A figure of /proc/<pid>/status."""
    return int(re.search(rf"{key}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
