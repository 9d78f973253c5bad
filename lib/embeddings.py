"""Manifest -> vectors: decode threads, batches, and a content-addressed Parquet cache that survives being killed."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from lib.errors import ArtifactError, ImageError
from lib.inference import Encoder, n_cores
from lib.storage import artifacts_dir, atomic_path, display_path, sha256_bytes, sweep_temporary

PART_SIZE = 256  # images a Parquet part holds: what a kill can cost
BATCH_SIZE = 32


@dataclass
class Embeddings:
    """Vectors of a manifest's images.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
        Row i belongs to row i of the manifest that was asked for, less the `failures`.
    failures : dict of path -> reason
        Images whose pixels could not be decoded.
    n_cached, n_computed : int
        Distinct images found in the cache, and computed now.
    seconds : float
        Time spent computing.
    """

    vectors: np.ndarray
    failures: dict[str, str]
    n_cached: int
    n_computed: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Rate of what was computed now; 0 where everything came from the cache."""
        return self.n_computed / self.seconds if self.n_computed else 0.0


def progress_bar(items: Iterable, total: int, description: str) -> Iterable:
    """Show how far, how fast and how long still; a line at most twice a second.

    What is counted follows a comma in the description ("logistic regression, paths"); images where there is none.
    """
    what, _, unit = description.partition(", ")
    return tqdm(items, total=total, desc=what, unit=f" {unit or 'images'}", mininterval=0.5, smoothing=0.1)


def cache_dir(encoder: Encoder) -> Path:
    """Folder of an encoder's cached vectors, shared by all tasks."""
    return artifacts_dir() / "embeddings" / encoder.fingerprint


def embed(
    root: Path,
    paths: Sequence[str],
    sha256: Sequence[str],
    encoder: Encoder,
    *,
    folder: Path | None = None,
    n_threads: int = 0,
    progress: Callable[[Iterable, int, str], Iterable] = progress_bar,
) -> Embeddings:
    """Embed images, computing only those whose content the cache does not hold.

    Parameters
    ----------
    root : Path
        Folder that `paths` are relative to.
    paths, sha256 : sequences of str, length n
        Files and the hashes of their content.
    encoder : Encoder
    folder : Path, optional
        The cache; artifacts/embeddings/<fingerprint> by default.
    n_threads : int
        Threads that decode; 0 takes one a core.
    progress : callable
        Wraps the iterable of images to compute, with their number and a description.

    Returns
    -------
    Embeddings
    """
    folder = folder or cache_dir(encoder)
    sweep_temporary(folder)
    known = read_cache(folder, encoder.dim, set(sha256))
    n_cached = len(known)
    missing = {sha: path for sha, path in zip(sha256, paths, strict=True) if sha not in known}
    broken: dict[str, str] = {}
    started = perf_counter()
    computed = _compute(root, missing, encoder, broken, n_threads or n_cores())
    todo = progress(computed, len(missing), f"embedding with {encoder.name}") if missing else ()
    for part in _chunks(todo, PART_SIZE):
        good = {sha: vector for sha, vector in part if vector is not None}
        write_part(folder, good)
        known.update(good)
    seconds = perf_counter() - started
    failures = {path: broken[sha] for sha, path in zip(sha256, paths, strict=True) if sha in broken}
    rows = [known[sha] for sha in sha256 if sha not in broken]
    vectors = np.stack(rows) if rows else np.empty((0, encoder.dim), dtype=np.float32)
    return Embeddings(vectors, failures, n_cached, len(missing) - len(broken), seconds)


def load_vectors(sha256: Sequence[str], fingerprint: str, dim: int) -> np.ndarray:
    """Vectors of shape (n, dim), float32, of images that have been embedded.

    Raises
    ------
    ArtifactError
        If some are not in the cache.
    """
    folder = artifacts_dir() / "embeddings" / fingerprint
    known = read_cache(folder, dim, set(sha256))
    lacking = sum(sha not in known for sha in sha256)
    if lacking:
        raise ArtifactError(
            f"{display_path(folder)} lacks {lacking} of {len(sha256)} vectors; run the embedding stage again."
        )
    return np.stack([known[sha] for sha in sha256])


def read_cache(folder: Path, dim: int, wanted: set[str]) -> dict[str, np.ndarray]:
    """Cached vectors by content hash; a part that cannot be read is removed, for its images can be computed again."""
    known: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("part-*.parquet")):
        try:
            table = pq.read_table(file, columns=["sha256", "vector"])
        except (OSError, pa.ArrowException):
            file.unlink(missing_ok=True)
            continue
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
        hashes = table["sha256"].to_pylist()
        known.update((sha, vector) for sha, vector in zip(hashes, vectors, strict=True) if sha in wanted)
    return known


def cached_hashes(folder: Path) -> set[str]:
    """Content hashes of the images whose vectors a cache holds; parts that cannot be read hold none."""
    found: set[str] = set()
    for file in folder.glob("part-*.parquet"):
        with contextlib.suppress(OSError, pa.ArrowException):
            found.update(pq.read_table(file, columns=["sha256"])["sha256"].to_pylist())
    return found


def write_part(folder: Path, vectors: dict[str, np.ndarray]) -> None:
    """Write one part of the cache atomically, named by its content."""
    if not vectors:
        return
    stacked = np.stack(list(vectors.values())).astype(np.float32, copy=False)
    column = pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel()), stacked.shape[1])
    name = sha256_bytes("".join(vectors).encode())[:16]
    with atomic_path(folder / f"part-{name}.parquet") as temporary:
        pq.write_table(pa.table({"sha256": list(vectors), "vector": column}), temporary)


def _compute(
    root: Path, missing: dict[str, str], encoder: Encoder, broken: dict[str, str], n_threads: int
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Yield (content hash, vector) as computed; None where the pixels are broken, with the reason in `broken`."""
    for batch in _chunks(_decoded(root, missing, encoder, n_threads), BATCH_SIZE):
        good = [(sha, pixels) for sha, pixels in batch if not isinstance(pixels, str)]
        vectors = iter(encoder.encode(np.stack([pixels for _, pixels in good])) if good else ())
        for sha, pixels in batch:
            if isinstance(pixels, str):
                broken[sha] = pixels
                yield sha, None
            else:
                yield sha, next(vectors)


def _decoded(
    root: Path, missing: dict[str, str], encoder: Encoder, n_threads: int
) -> Iterator[tuple[str, np.ndarray | str]]:
    """Preprocessed pixels in order, decoded by threads a few batches ahead; a reason instead where that fails."""

    def read(item: tuple[str, str]) -> tuple[str, np.ndarray | str]:
        sha, path = item
        try:
            data = (root / path).read_bytes()
            if sha256_bytes(data) != sha:
                return sha, "it was changed while it was being read; run again"
            return sha, encoder.preprocessing.pixels(data)
        except ImageError as error:
            return sha, str(error)
        except OSError as error:
            return sha, f"cannot be read ({error.strerror or error})"

    items = iter(missing.items())
    with ThreadPoolExecutor(n_threads) as pool:
        ahead = deque(pool.submit(read, item) for item in islice(items, 3 * BATCH_SIZE))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(read, item) for item in islice(items, 1))


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items; the last one may be shorter."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk
