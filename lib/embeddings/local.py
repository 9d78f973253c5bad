"""The engine of one machine: threads decode a few batches ahead, the encoder works through them in order.

Threads, not processes: Pillow and ONNX Runtime let go of the interpreter's lock while they work, and nothing is sent.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from lib.embeddings.cache import PART_SIZE, write_part
from lib.errors import ImageError
from lib.inference import Encoder, n_cores
from lib.storage import sha256_bytes

BATCH_SIZE = 32
UNREADABLE = "cannot be read"
CHANGED = "it was changed while it was being read; run again"
UNREAD = (UNREADABLE, CHANGED)  # how a reason begins that does not lie in the image


def compute(
    root: Path, missing: dict[str, str], encoder: Encoder, folder: Path, *, n_threads: int = 0
) -> Iterator[tuple[str, str]]:
    """Embed images and write their vectors in parts of PART_SIZE.

    Parameters
    ----------
    root : Path
        Folder that the paths are relative to.
    missing : dict of content hash -> path
    encoder : Encoder
    folder : Path
        The cache.
    n_threads : int
        Threads that decode; 0 takes one a core.

    Yields
    ------
    (content hash, "" or the reason why there is no vector)
        As computed; the last ones are written once the iterator has ended.
    """
    part: dict[str, np.ndarray] = {}
    for sha, vector in _vectors(root, missing, encoder, n_threads or n_cores()):
        if isinstance(vector, str):
            yield sha, vector
            continue
        part[sha] = vector
        if len(part) == PART_SIZE:
            write_part(folder, part)
            part = {}
        yield sha, ""
    write_part(folder, part)


def _vectors(
    root: Path, missing: dict[str, str], encoder: Encoder, n_threads: int
) -> Iterator[tuple[str, np.ndarray | str]]:
    """Yield (content hash, vector) in order; the reason in the vector's place where the pixels are broken."""
    for batch in _chunks(_decoded(root, missing, encoder, n_threads), BATCH_SIZE):
        good = [pixels for _, pixels in batch if not isinstance(pixels, str)]
        vectors = iter(encoder.encode(np.stack(good)) if good else ())
        yield from ((sha, pixels if isinstance(pixels, str) else next(vectors)) for sha, pixels in batch)


def _decoded(
    root: Path, missing: dict[str, str], encoder: Encoder, n_threads: int
) -> Iterator[tuple[str, np.ndarray | str]]:
    """Preprocessed pixels in order, decoded by threads a few batches ahead; a reason instead where that fails."""

    def read(item: tuple[str, str]) -> tuple[str, np.ndarray | str]:
        sha, path = item
        try:
            data = (root / path).read_bytes()
            if sha256_bytes(data) != sha:
                return sha, CHANGED
            return sha, encoder.preprocessing.pixels(data)
        except ImageError as error:
            return sha, str(error)
        except OSError as error:
            return sha, f"{UNREADABLE} ({error.strerror or error})"

    items = iter(missing.items())
    with ThreadPoolExecutor(n_threads) as pool:
        ahead = deque(pool.submit(read, item) for item in islice(items, 3 * BATCH_SIZE))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(read, item) for item in islice(items, 1))


def is_unchanged(path: Path, sha256: str) -> bool:
    """Whether a file can be read and has this content."""
    try:
        return sha256_bytes(path.read_bytes()) == sha256
    except OSError:
        return False


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items; the last one may be shorter."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk
