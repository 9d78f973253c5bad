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
from lib.errors import ArtifactError, ParameterError
from lib.inference import RawPixels
from lib.storage import PROJECT_ROOT, sha256_bytes


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


DEADLY = """
import sys
from pathlib import Path
from lib.embeddings import embed
from lib.errors import EngineError
from lib.progress import quiet
from lib.storage import sha256_bytes
from test_cluster import Deadly
root = Path(sys.argv[1])
paths = [path.name for path in root.glob("*.png")]
hashes = [sha256_bytes((root / path).read_bytes()) for path in paths]
try:
    embed(root, paths, hashes, Deadly(), engine="ray", folder=root / "cache", progress=quiet)
except EngineError as error:
    print(error)
"""


class Deadly(RawPixels):
    """An encoder that kills every worker."""

    def encode(self, pixels):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_part_that_kills_every_worker_ends_the_run_with_one_sentence(save_image, tmp_path):
    save_image("images/a.png")
    result = run_ray(DEADLY, str(tmp_path / "images"))
    said = [
        line for line in result.stdout.splitlines() if line.startswith("The Ray cluster gave up after 3 more tries (")
    ]
    assert len(said) == 1, result.stderr[-3000:]  # Ray prints lines of its own
    assert said[0].endswith("use engine=local.")


def test_a_node_that_does_not_see_the_images_is_told_from_a_broken_image(save_image, tmp_path):
    save_image("whole.png")
    sha = sha256_bytes((tmp_path / "whole.png").read_bytes())
    cluster._check_images(tmp_path, {sha: "whole.png"}, [(sha, "the pixels cannot be decoded")])
    cluster._check_images(tmp_path, {sha: "gone.png"}, [(sha, "cannot be read (No such file or directory)")])
    with pytest.raises(ArtifactError, match=r"does not see the images in .* storage that all nodes share"):
        cluster._check_images(tmp_path, {sha: "whole.png"}, [(sha, "cannot be read (No such file or directory)")])


def test_vectors_written_elsewhere_are_noticed(tmp_path):
    with pytest.raises(ArtifactError, match="wrote 1 vectors elsewhere than to"):
        cluster._check_vectors(tmp_path, [("0" * 64, ""), ("1" * 64, "broken")])


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
from lib.errors import ArtifactError, ParameterError
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
