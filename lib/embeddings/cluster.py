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
from lib.errors import ArtifactError, EngineError, ParameterError, ProjectError, first_line
from lib.inference import Encoder, n_cores
from lib.storage import display_path

RETRIES = 3  # times a dead worker is started again, and its part with it: a part that kills it must end the run
SHARE = "put the images and ARTIFACTS_DIR on storage that all nodes share, under the same path, and run again."
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
    EngineError
        If a worker could not write, or fails again and again.
    ArtifactError
        If a node sees other folders than this process.
    """
    with _cluster() as ray:
        options = _actor_options(ray.nodes(), uses_gpu=encoder.uses_gpu)
        outcomes = ray.data.from_arrow(_parts(missing)).map_batches(
            _Actor,
            fn_constructor_args=(root.resolve(), encoder, folder.resolve(), options["num_cpus"]),
            batch_size=PART_SIZE,
            batch_format="numpy",
            num_cpus=options["num_cpus"],
            num_gpus=options["num_gpus"],
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=options["n_actors"]),
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )
        embedded: set[str] = set()
        with _told_plainly(ray):
            for batch in outcomes.iter_batches(batch_size=None, batch_format="numpy"):
                part = list(zip(batch["sha256"].tolist(), batch["reason"].tolist(), strict=True))
                if stopped := next(filter(None, batch["stopped"]), ""):
                    raise EngineError(stopped)
                _check_images(root, missing, part)
                if not embedded:  # told after the first part, not after hours
                    _check_vectors(folder, part)
                embedded.update(sha for sha, reason in part if not reason)
                yield from part
    _check_vectors(folder, [(sha, "") for sha in embedded])


def _check_images(root: Path, missing: dict[str, str], outcomes: Sequence[tuple[str, str]]) -> None:
    """Refuse a node that could not read a file which is whole here: its images are elsewhere, not broken."""
    suspects = [sha for sha, reason in outcomes if reason.startswith(local.UNREAD)]
    if any(local.is_unchanged(root / missing[sha], sha) for sha in suspects):
        raise ArtifactError(f"A Ray node does not see the images in {display_path(root)} as this machine does; {SHARE}")


def _check_vectors(folder: Path, outcomes: Sequence[tuple[str, str]]) -> None:
    """Refuse a node that wrote its vectors into a folder which is not the one here."""
    if lost := len({sha for sha, reason in outcomes if not reason} - cached_hashes(folder)):
        raise ArtifactError(f"A Ray node wrote {lost:,} vectors elsewhere than to {display_path(folder)}; {SHARE}")


@contextlib.contextmanager
def _told_plainly(ray: Any) -> Iterator[None]:
    """Turn what Ray raises when a worker fails or dies for good into one sentence."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"The Ray cluster gave up after {RETRIES} more tries ({first_line(error)}); what was embedded so far is "
            "kept. See Ray's logs, or use engine=local."
        ) from error


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


def _actor_options(nodes: Sequence[dict], *, uses_gpu: bool) -> dict[str, int]:
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

    def __init__(self, root: Path, encoder: Encoder, folder: Path, n_threads: int):
        self.root, self.encoder, self.folder, self.n_threads = root, encoder, folder, n_threads

    def __call__(self, part: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Embed and write one part; the outcome of each image, or why the run has to stop."""
        missing = dict(zip(part["sha256"].tolist(), part["path"].tolist(), strict=True))
        outcomes, stopped = [(sha, "") for sha in missing], ""
        try:
            outcomes = list(local.compute(self.root, missing, self.encoder, self.folder, n_threads=self.n_threads))
        except ProjectError as error:
            stopped = str(error)
        return {
            "sha256": [sha for sha, _ in outcomes],
            "reason": [reason for _, reason in outcomes],
            "stopped": [stopped] * len(outcomes),
        }
