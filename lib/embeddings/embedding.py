"""What the cache lacks is computed by an engine; the rest is there already."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np

from lib.embeddings import cluster, local
from lib.embeddings.cache import cache_dir, load_vectors, remove_damaged
from lib.errors import ParameterError
from lib.inference import Encoder
from lib.progress import Progress, progress_bar
from lib.storage import sweep_temporary

# name -> (root, {content hash: path}, encoder, folder) -> yields (content hash, "" or why it failed) as parts come in
ENGINES: dict[str, Callable[[Path, dict[str, str], Encoder, Path], Iterator[tuple[str, str]]]] = {
    "local": local.compute,
    "ray": cluster.compute,
}


@dataclass
class Embeddings:
    """What embedding a manifest's images came to.

    Parameters
    ----------
    sha256 : list of str
        Content hashes in the order asked for, less those of the `failures`.
    failures : dict of path -> reason
        Images whose pixels could not be decoded.
    n_cached, n_computed : int
        Distinct images found in the cache, and computed now.
    seconds : float
        Time spent computing.
    encoder : Encoder
    folder : Path
        The cache.
    """

    sha256: list[str]
    failures: dict[str, str]
    n_cached: int
    n_computed: int
    seconds: float
    encoder: Encoder
    folder: Path

    @property
    def images_per_second(self) -> float:
        """Rate of what was computed now; 0 where everything came from the cache."""
        return self.n_computed / self.seconds if self.n_computed else 0.0

    @cached_property
    def vectors(self) -> np.ndarray:
        """Shape (n, dim), float32; row i belongs to sha256[i]. Read from the cache at first use."""
        return load_vectors(self.sha256, self.folder, self.encoder.dim)


def embed(
    root: Path,
    paths: Sequence[str],
    sha256: Sequence[str],
    encoder: Encoder,
    *,
    engine: str = "local",
    folder: Path | None = None,
    progress: Progress = progress_bar,
) -> Embeddings:
    """Embed images, computing only those whose content the cache does not hold.

    Parameters
    ----------
    root : Path
        Folder that `paths` are relative to.
    paths, sha256 : sequences of str, length n
        Files and the hashes of their content.
    encoder : Encoder
    engine : {"local", "ray"}
        This process's threads, or a Ray cluster's actors.
    folder : Path, optional
        The cache; artifacts/embeddings/<fingerprint> by default.
    progress : callable
        Wraps the iterable of images to compute, with their number and a description.

    Returns
    -------
    Embeddings

    Raises
    ------
    ParameterError
        If there is no such engine, or its package is not installed.
    DiskFullError, EngineError
        What was written before is kept and found by the next run.
    """
    if engine not in ENGINES:
        raise ParameterError(f"There is no engine {engine!r}; the engines are {', '.join(ENGINES)}.")
    folder = folder or cache_dir(encoder.fingerprint)
    paths, sha256 = (np.asarray(column, dtype=object).tolist() for column in (paths, sha256))
    sweep_temporary(folder)
    known = remove_damaged(folder)
    missing = {sha: path for sha, path in zip(sha256, paths, strict=True) if sha not in known}
    n_cached = len(known.intersection(sha256))
    started = perf_counter()
    broken: dict[str, str] = {}
    if missing:
        outcomes = ENGINES[engine](root, missing, encoder, folder)
        told = progress(outcomes, len(missing), f"embedding with {encoder.name}")
        broken = {sha: reason for sha, reason in told if reason}
    seconds = perf_counter() - started
    failures = {path: broken[sha] for sha, path in zip(sha256, paths, strict=True) if sha in broken}
    good = [sha for sha in sha256 if sha not in broken]
    return Embeddings(good, failures, n_cached, len(missing) - len(broken), seconds, encoder, folder)
