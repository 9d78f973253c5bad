"""The Ray engine on a real cluster of two nodes on this machine, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.embeddings import cluster
from lib.embeddings.cache import PART_SIZE
from lib.errors import ParameterError
from lib.inference import RawPixels
from lib.storage import PROJECT_ROOT


@dataclass
class Mortal(RawPixels):
    """Raw pixels whose first worker to reach a second part is killed; each worker leaves a trace of its node."""

    side: int = 4
    traces: Path = Path()
    encoded: int = 0

    def encode(self, pixels):
        import ray

        (self.traces / f"node-{ray.get_runtime_context().get_node_id()}-{os.getpid()}").touch()
        self.encoded += len(pixels)
        if self.encoded > PART_SIZE + 64:
            try:
                (self.traces / "killed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(pixels)


TWO_NODES = """
import json, os, sys
from pathlib import Path
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster
from lib.embeddings import embed
from lib.inference import RawPixels
from lib.progress import quiet
from lib.storage import sha256_bytes
from test_cluster import Mortal

root, folder = Path(sys.argv[1]), Path(sys.argv[2])
paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
paths.append("cut.png")
hashes = [sha256_bytes((root / path).read_bytes()) for path in paths]
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = nodes.address
encoder = Mortal(traces=folder)
result = embed(root, paths, hashes, encoder, engine="ray", folder=folder / "ray", progress=quiet)
nodes.shutdown()
expected = embed(root, paths, hashes, RawPixels(side=4), folder=folder / "local", progress=quiet)
held = [sha for part in (folder / "ray").glob("*.parquet") for sha in pq.read_table(part)["sha256"].to_pylist()]
print(json.dumps({
    "killed": (folder / "killed").exists(),
    "nodes": len({path.name.split("-")[1] for path in folder.glob("node-*")}),
    "same": bool((result.vectors == expected.vectors).all()),
    "failures": [list(result.failures), list(expected.failures)],
    "held": [len(held), len(set(held)), len(expected.sha256)],
    "counts": [result.n_computed, result.n_cached],
}))
"""


def run_ray(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code with Ray, without the proxies of the other tests, which Ray would ask for its own processes."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"PYTHONPATH": str(PROJECT_ROOT / "tests"), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


def test_two_nodes_and_a_killed_worker_give_the_vectors_of_one_machine(save_image, tmp_path):

    n = 6 * PART_SIZE + 100
    for seed in range(n):
        save_image(f"images/{seed:04d}.png", seed=seed, size=(6, 6))
    (tmp_path / "images" / "cut.png").write_bytes((tmp_path / "images" / "0000.png").read_bytes()[:60])
    (tmp_path / "cache").mkdir()
    result = run_ray(TWO_NODES, str(tmp_path / "images"), str(tmp_path / "cache"))
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["killed"]
    assert found["nodes"] == 2
    assert found["same"]
    assert found["failures"] == [["cut.png"], ["cut.png"]]
    assert found["held"] == [n, n, n]
    assert found["counts"] == [n, 0]


def node(cpu, gpu=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": float(cpu)} | ({"GPU": float(gpu)} if gpu else {})}


@pytest.mark.parametrize(
    ("nodes", "uses_gpu", "expected"),
    [
        ([node(2)], False, (2, 0, 1)),
        ([node(16), node(16)], False, (4, 0, 8)),
        ([node(16), node(1)], False, (1, 0, 17)),
        ([node(16), node(8, alive=False)], False, (4, 0, 4)),
        ([node(16, gpu=2), node(64)], True, (4, 1, 2)),
        ([node(4, gpu=4)], True, (1, 1, 4)),
    ],
)
def test_actors_fill_the_nodes_and_take_a_gpu_each_where_they_use_one(nodes, uses_gpu, expected):
    options = cluster._actor_options(nodes, uses_gpu=uses_gpu)
    assert (options["num_cpus"], options["num_gpus"], options["n_actors"]) == expected


def test_a_cluster_without_a_gpu_says_so():
    with pytest.raises(ParameterError, match="no node with a GPU; add one or use engine=local"):
        cluster._actor_options([node(4)], uses_gpu=True)


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
from pathlib import Path
from lib.embeddings import embed
from lib.inference import RawPixels
from lib.progress import quiet
embed(Path(sys.argv[1]), ["a.png"], ["0" * 64], RawPixels(), engine="ray", progress=quiet)
"""


def test_without_the_package_it_says_what_to_install(tmp_path):
    result = run_ray(WITHOUT_RAY, str(tmp_path))
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "ParameterError: engine=ray needs the optional package ray" in last
    assert "pip install -r requirements-ray.txt" in last


NO_CLUSTER = """
import os, sys
os.environ["RAY_ADDRESS"] = "127.0.0.1:9"
from pathlib import Path
from lib.embeddings import embed
from lib.errors import ParameterError
from lib.inference import RawPixels
from lib.progress import quiet
try:
    embed(Path(sys.argv[1]), ["a.png"], ["0" * 64], RawPixels(), engine="ray", progress=quiet)
except ParameterError as error:
    print(error)
"""


def test_a_cluster_that_does_not_answer_is_named(tmp_path):
    result = run_ray(NO_CLUSTER, str(tmp_path))
    assert "No Ray cluster can be used at 127.0.0.1:9" in result.stdout, result.stderr[-2000:]
    assert "unset RAY_ADDRESS" in result.stdout
