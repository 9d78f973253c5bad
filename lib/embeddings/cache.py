"""Cached vectors: Parquet parts of (content hash, vector), shared by all tasks and read without a detour.

Parts are named by the images they hold, so the same part written twice is one file. They are stored plain: vectors
do not compress, and Arrow then hands NumPy the very bytes it has read.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.errors import ArtifactError
from lib.storage import EMBEDDINGS, artifacts_dir, atomic_path, display_path, sha256_bytes

PART_SIZE = 256  # images a part holds: what a kill can cost
PARTS = "part-*.parquet"
READERS = 4  # threads that read parts: Arrow lets go of the interpreter's lock, and checksums take their time


def cache_dir(fingerprint: str) -> Path:
    """Folder of the cached vectors of an encoder's fingerprint, shared by all tasks."""
    return artifacts_dir() / EMBEDDINGS / fingerprint


def write_part(folder: Path, vectors: dict[str, np.ndarray]) -> None:
    """Write one part atomically, named by its content; nothing where there are no vectors.

    Raises
    ------
    DiskFullError
        The parts written before stay valid.
    """
    if not vectors:
        return
    stacked = np.stack(list(vectors.values())).astype(np.float32, copy=False)
    column = pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel()), stacked.shape[1])
    name = sha256_bytes("".join(vectors).encode())[:16]
    with atomic_path(folder / f"part-{name}.parquet") as temporary:
        table = pa.table({"sha256": list(vectors), "vector": column})
        pq.write_table(table, temporary, compression="none", use_dictionary=False, write_page_checksum=True)


def cached_hashes(folder: Path) -> set[str]:
    """Content hashes of the images that a cache holds, by the parts' own word; damaged parts hold none."""
    return {sha for _, hashes in _parts(folder) for sha in hashes.to_pylist()}


def remove_damaged(folder: Path) -> set[str]:
    """Read every part in full, remove those whose checksums do not hold; the content hashes of the images that stay.

    What cannot be read for another reason (no permission, no memory) stays, and raises.
    """
    known: set[str] = set()
    files = sorted(folder.glob(PARTS))
    for file, hashes in zip(files, _side_by_side(_whole_hashes, files), strict=True):
        if hashes is None:
            file.unlink(missing_ok=True)
        else:
            known.update(hashes.to_pylist())
    return known


def _whole_hashes(file: Path) -> pa.ChunkedArray | None:
    """Hashes of a part that has been read in full; None where it is damaged."""
    part = _read(file, ["sha256", "vector"])
    return None if part is None else part["sha256"]


def _side_by_side(function: Callable[[Path], Any], files: Sequence[Path]) -> Iterator:
    """What a function gives of each file, in order; several threads read, and no more of them are held than these."""
    with ThreadPoolExecutor(READERS) as pool:
        ahead: deque[Future] = deque()
        for file in files:
            ahead.append(pool.submit(function, file))
            if len(ahead) > READERS:
                yield ahead.popleft().result()
        yield from (future.result() for future in ahead)


def load_vectors(sha256: Sequence[str], folder: Path, dim: int) -> np.ndarray:
    """Vectors of shape (n, dim), float32, of images whose vectors a cache holds; row i belongs to sha256[i].

    The one copy that is made is from a part's pages into the rows.

    Raises
    ------
    ArtifactError
        If some are not in the cache.
    """
    vectors = np.empty((len(sha256), dim), dtype=np.float32)
    places = _Places(sha256)
    for rows, block in _blocks(folder, places.distinct):
        vectors[places.first[rows]] = block
    vectors[places.repeated] = vectors[places.first[places.codes[places.repeated]]]
    return vectors


class _Places:
    """Where each distinct hash stands first in a list, and which places repeat an earlier one."""

    def __init__(self, sha256: Sequence[str]):
        encoded = pa.array(list(sha256), pa.string()).dictionary_encode()
        self.distinct = encoded.dictionary
        self.codes = encoded.indices.to_numpy()
        self.first = np.unique(self.codes, return_index=True)[1]
        self.repeated = np.flatnonzero(self.first[self.codes] != np.arange(len(self.codes)))


@dataclass(frozen=True)
class VectorFacts:
    """What can be told of vectors in one pass: their Euclidean lengths, shape (n,), and the constant dimensions."""

    norms: np.ndarray
    n_dead: int
    all_finite: bool


def vector_facts(sha256: Sequence[str], folder: Path, dim: int) -> VectorFacts:
    """Facts of the cached vectors of images, part by part: the memory does not grow with their number.

    Raises
    ------
    ArtifactError
        If some are not in the cache.
    """
    places = _Places(sha256)
    norms = np.zeros(len(places.distinct), dtype=np.float32)
    low, high = np.full(dim, np.inf, dtype=np.float32), np.full(dim, -np.inf, dtype=np.float32)
    for rows, block in _blocks(folder, places.distinct):
        norms[rows] = np.linalg.norm(block, axis=1)
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    return VectorFacts(norms[places.codes], int((low == high).sum()), bool(np.isfinite(norms).all()))


def _blocks(folder: Path, wanted: pa.Array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places in `wanted`, their vectors) part by part; all of `wanted` or an ArtifactError.

    `wanted` are distinct hashes. A vector that two parts hold comes twice, with the same values.
    """
    parts = list(_parts(folder))
    hashes = pa.chunked_array([column for _, column in parts] or [[]], pa.string())
    place = pc.index_in(hashes, value_set=wanted).fill_null(-1).to_numpy()  # -1: not asked for
    lacking = len(wanted) - len(np.unique(place[place >= 0]))
    if lacking:
        raise ArtifactError(
            f"{display_path(folder)} lacks {lacking:,} of {len(wanted):,} vectors; run the embedding stage again."
        )
    rows_of = np.split(place, np.cumsum([len(column) for _, column in parts], dtype=int))[:-1]
    asked = [(file, rows) for (file, _), rows in zip(parts, rows_of, strict=True) if (rows >= 0).any()]
    for (_, rows), block in zip(asked, _side_by_side(_read_vectors, [file for file, _ in asked]), strict=True):
        yield rows[rows >= 0], block if rows.min() >= 0 else block[rows >= 0]


def _parts(folder: Path) -> Iterator[tuple[Path, pa.ChunkedArray]]:
    """Each part with its hashes, but those that are damaged."""
    for file in sorted(folder.glob(PARTS)):
        if (part := _read(file, ["sha256"])) is not None:
            yield file, part["sha256"]


def _read(file: Path, columns: list[str]) -> pa.Table | None:
    """Columns of a part, their checksums compared; None where the file is damaged."""
    try:
        return pq.read_table(file, columns=columns, page_checksum_verification=True)
    except pa.ArrowInvalid:
        return None
    except OSError as error:  # Arrow's own, of a broken page or header, has no number; the system's has
        if error.errno is not None:
            raise
        return None


def _read_vectors(file: Path) -> np.ndarray:
    """The vectors of a part, shape (n, dim), float32: a view of what Arrow has read.

    Raises
    ------
    ArtifactError
        If it is damaged.
    """
    part = _read(file, ["vector"])
    if part is None:
        raise ArtifactError(f"{display_path(file)} is damaged; run the embedding stage again.")
    column = part["vector"].chunk(0)
    return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), -1)
