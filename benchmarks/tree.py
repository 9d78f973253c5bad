"""A contender of serving.py: its process tree, from its start to its end, and what that holds and computes."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
from load import CONTENT_TYPE, form_around
from measuring import ROOT

OURS = "this project"
SERVICES = {
    OURS: ["serve.py"],
    f"{OURS}, --no-log": ["serve.py", "--no-log"],
    "FastAPI + torch": ["benchmarks/services/fastapi_torch.py"],
    "LitServe": ["benchmarks/services/litserve_torch.py"],
    "LitServe, batches": ["benchmarks/services/litserve_torch.py"],
}


def command(name: str, task: str, port: int) -> list[str]:
    """How a contender is started."""
    if name.startswith(OURS):
        arguments = ["--task", task, "--port", str(port)]
    else:
        arguments = [str(port), *{"LitServe": "1", "LitServe, batches": "8"}.get(name, "")]
    return [sys.executable, *SERVICES[name], *arguments]


class Service:
    """A contender's process tree, started and waited for until its first good answer.

    Parameters
    ----------
    name, task : str
    port : int
    image : Path
        What it is asked about.
    folder : Path
        For what it writes.
    """

    def __init__(self, name: str, task: str, port: int, image: Path, folder: Path):
        self.port, self.peak = port, 0.0
        self._log = folder / "service.log"
        started = time.perf_counter()
        with self._log.open("w") as log:
            self._process = psutil.Popen(
                command(name, task, port),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=os.environ | {"PRODUCTION_DIR": str(folder / "production"), "PYTHONPATH": str(ROOT)},
            )
        try:
            self._wait_for_an_answer(image)
        except BaseException:
            self.stop()
            raise
        self.wall, self.cpu_at_start = time.perf_counter() - started, self.cpu()

    def _wait_for_an_answer(self, image: Path, patience: float = 60.0) -> None:
        """Ask again and again until it answers 200."""
        body = b"".join(form_around(image, self.port)).split(b"\r\n\r\n", 1)[1]
        url, until = f"http://127.0.0.1:{self.port}/predict", time.perf_counter() + patience
        while time.perf_counter() < until and self._process.poll() is None:
            try:
                request = urllib.request.Request(url, data=body, headers={"Content-Type": CONTENT_TYPE})
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answer.read()
                return
            except OSError:
                time.sleep(0.02)
        sys.exit(f"A service gave no answer; its last words were:\n{self._log.read_text()[-2000:]}")

    def _tree(self) -> list[psutil.Process]:
        """Its processes."""
        return [self._process, *self._process.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds that its processes computed, those that have ended too."""
        return sum(sum(process.cpu_times()[:4]) for process in self._tree())

    def megabytes(self) -> float:
        """What its processes hold (PSS: a page that several share is counted once); keeps the largest seen."""
        held = sum(process.memory_full_info().pss for process in self._tree()) / 1e6
        self.peak = max(self.peak, held)
        return held

    def load(self, **plan: object) -> dict:
        """Let the load generator carry a plan out, and look at the memory meanwhile."""
        generator = [sys.executable, str(ROOT / "benchmarks" / "load.py"), json.dumps({"port": self.port} | plan)]
        with subprocess.Popen(generator, stdout=subprocess.PIPE, text=True) as process:
            while True:
                try:
                    text, _ = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    with contextlib.suppress(psutil.NoSuchProcess):  # it may end, or one of its processes
                        self.megabytes()
        return json.loads(text)

    def stop(self) -> None:
        """End it, and what it leaves behind."""
        processes = self._tree() if self._process.poll() is None else []
        for process in processes[:1]:
            process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=15)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive)
