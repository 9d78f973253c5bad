"""The engine of one machine: each thread decodes a batch and runs the network on it, beside the others.

Threads, not processes: Pillow and ONNX Runtime let go of the interpreter's lock while they work, and nothing is sent.
Whole batches side by side beat one batch whose forward pass is split over the cores, by a twentieth to a tenth.
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

BATCH_SIZE, GPU_BATCH_SIZE = 16, 64
WORKERS = 4  # batches at once on a CPU; each holds its activations, so more cores make each of them faster instead
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
        Cores to use; 0 takes all.

    Yields
    ------
    (content hash, "" or the reason why there is no vector)
        As computed; the last ones are written once the iterator has ended.
    """
    n_threads = n_threads or n_cores()
    n_workers, size = n_threads, GPU_BATCH_SIZE
    if not encoder.uses_gpu:
        n_workers = min(n_threads, WORKERS)
        size = min(BATCH_SIZE, -(-len(missing) // (4 * n_workers)))  # few images: smaller batches, so that all work
        encoder = encoder.with_threads(n_threads // n_workers)
    part: dict[str, np.ndarray] = {}
    for sha, vector in _vectors(root, missing, encoder, n_workers, size):
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
    root: Path, missing: dict[str, str], encoder: Encoder, n_workers: int, size: int
) -> Iterator[tuple[str, np.ndarray | str]]:
    """Yield (content hash, vector) in order; the reason in the vector's place where the pixels are broken."""
    batches = _chunks(missing.items(), size)
    pool = ThreadPoolExecutor(n_workers)
    try:
        ahead = deque(pool.submit(_embed_batch, root, batch, encoder) for batch in islice(batches, 2 * n_workers))
        while ahead:
            yield from ahead.popleft().result()
            ahead.extend(pool.submit(_embed_batch, root, batch, encoder) for batch in islice(batches, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _embed_batch(root: Path, batch: list[tuple[str, str]], encoder: Encoder) -> list[tuple[str, np.ndarray | str]]:
    """(content hash, vector or reason) of each (content hash, path)."""
    decoded = [_read(root / path, sha, encoder) for sha, path in batch]
    good = [pixels for pixels in decoded if not isinstance(pixels, str)]
    vectors = iter(encoder.encode(np.stack(good)) if good else ())
    shas = (sha for sha, _ in batch)
    return [(sha, item if isinstance(item, str) else next(vectors)) for sha, item in zip(shas, decoded, strict=True)]


def _read(path: Path, sha256: str, encoder: Encoder) -> np.ndarray | str:
    """Preprocessed pixels of a file of this content, or the reason why there are none."""
    try:
        data = path.read_bytes()
        return encoder.preprocessing.pixels(data) if sha256_bytes(data) == sha256 else CHANGED
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f"{UNREADABLE} ({error.strerror or error})"


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
