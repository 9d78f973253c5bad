"""The engine of many machines: Ray Data hands out parts, actors hold the encoder and write them where all can read.

Each actor does with its part what `local` does with everything, so the vectors are the same. A part whose worker dies
is handed out again; its file is named by its content, so no image is lost and none is there twice.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lib.embeddings import local
from lib.embeddings.cache import PART_SIZE, cached_hashes
from lib.errors import ArtifactError, DiskFullError, ParameterError, first_line
from lib.inference import Encoder, n_cores
from lib.storage import display_path

CPUS_PER_ACTOR = 4  # beyond that one forward pass gains little from another core
REQUIREMENTS = "requirements-ray.txt"


def compute(root: Path, missing: dict[str, str], encoder: Encoder, folder: Path) -> Iterator[tuple[str, str]]:
    """Embed images on a Ray cluster: the one at the environment variable RAY_ADDRESS, or one of this machine's cores.

    `root` and `folder` must be the same folders on every node. Parameters and what is yielded as in `local.compute`,
    part by part as they come in.

    Raises
    ------
    ParameterError
        If Ray is not installed, or no cluster answers at RAY_ADDRESS.
    DiskFullError
        If a worker could not write.
    ArtifactError
        If a node wrote elsewhere, so that its vectors are not in `folder`.
    """
    with _cluster() as ray:
        options = _actor_options(ray.nodes(), uses_gpu=encoder.uses_gpu)
        outcomes = ray.data.from_arrow(_parts(missing)).map_batches(
            _Actor,
            fn_constructor_args=(root.resolve(), encoder.for_worker(int(options["num_cpus"])), folder.resolve()),
            batch_size=PART_SIZE,
            batch_format="numpy",
            num_cpus=options["num_cpus"],
            num_gpus=options["num_gpus"],
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=options["n_actors"]),
        )
        embedded = set()
        for batch in outcomes.iter_batches(batch_size=None, batch_format="numpy"):
            if stopped := next(filter(None, batch["stopped"]), ""):
                raise DiskFullError(stopped)
            embedded.update(sha for sha, reason in zip(batch["sha256"], batch["reason"], strict=True) if not reason)
            yield from zip(batch["sha256"].tolist(), batch["reason"].tolist(), strict=True)
    if lost := len(embedded - cached_hashes(folder)):
        raise ArtifactError(
            f"{lost:,} vectors were written by nodes on which {display_path(folder)} is another folder than here; "
            "put artifacts/ (or ARTIFACTS_DIR) and the images on storage that all nodes share, and run again."
        )


@contextlib.contextmanager
def _cluster() -> Iterator[Any]:
    """The module ray, connected; what was started here is stopped again."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ParameterError(
            f"engine=ray needs the optional package ray ({error}); install it with pip install -r {REQUIREMENTS}, "
            "or use engine=local."
        ) from None
    address = os.environ.get("RAY_ADDRESS", "")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        quietly = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            _knock(address)
            ray.init(address=address, **quietly)
        else:
            ray.init(address="local", num_cpus=n_cores(), include_dashboard=False, **quietly)
    except (OSError, RuntimeError, ValueError) as error:
        raise ParameterError(
            f"No Ray cluster can be used at {address or 'this machine'} ({first_line(error)}); start one, or unset "
            "RAY_ADDRESS for one of this machine's cores."
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str, timeout: float = 10.0) -> None:
    """Raise OSError where nothing listens at host:port or ray://host:port; ray.init itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()


def _actor_options(nodes: Sequence[dict], *, uses_gpu: bool) -> dict[str, float]:
    """CPUs and GPUs of an actor, and how many actors the living nodes have room for.

    Parameters
    ----------
    nodes : sequence of dict
        From ray.nodes().
    uses_gpu : bool
        Whether each actor takes a GPU of its own.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if uses_gpu:
        resources = [node for node in resources if node.get("GPU", 0) >= 1]
    if not resources:
        raise ParameterError(
            f"The Ray cluster has no node with a {'GPU' if uses_gpu else 'CPU'}; add one or use engine=local."
        )
    cpus = min(CPUS_PER_ACTOR, *(int(node["CPU"] / max(node["GPU"], 1) if uses_gpu else node["CPU"]) or 1
                                 for node in resources))  # fmt: skip
    room = [int(min(node["CPU"] // cpus, node["GPU"]) if uses_gpu else node["CPU"] // cpus) for node in resources]
    return {"num_cpus": cpus, "num_gpus": 1 if uses_gpu else 0, "n_actors": sum(room)}


def _parts(missing: dict[str, str]) -> list[pa.Table]:
    """The images to embed as tables of PART_SIZE rows."""
    table = pa.table({"sha256": list(missing), "path": list(missing.values())})
    return [table.slice(start, PART_SIZE) for start in range(0, len(table), PART_SIZE)]


class _Actor:
    """A worker that holds an encoder and embeds part after part."""

    def __init__(self, root: Path, encoder: Encoder, folder: Path):
        self.root, self.encoder, self.folder = root, encoder, folder

    def __call__(self, part: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Embed and write one part; the outcome of each image, or why the run has to stop."""
        missing = dict(zip(part["sha256"].tolist(), part["path"].tolist(), strict=True))
        try:
            outcomes, stopped = list(local.compute(self.root, missing, self.encoder, self.folder)), ""
        except DiskFullError as error:
            outcomes, stopped = [(sha, "") for sha in missing], str(error)
        return {
            "sha256": [sha for sha, _ in outcomes],
            "reason": [reason for _, reason in outcomes],
            "stopped": [stopped] * len(outcomes),
        }
