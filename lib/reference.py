"""What a version was trained on, as far as serving needs it: vectors and small pictures of training images.

With these a service tells images that are far from all of them, and shows the nearest, without the images themselves.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.preprocessing import normalize

from lib.errors import ArtifactError, ImageError
from lib.images import thumbnail
from lib.neighbours import K, kth_distances
from lib.storage import atomic_path, display_path

MAX_IMAGES = 5000  # as many are drawn where there are more
SIDE = 96  # pixels of the small pictures
COLUMNS = ["sha256", "path", "label", "picture", "vector"]


@dataclass(frozen=True)
class Reference:
    """Training images of a version.

    Parameters
    ----------
    sha256, paths, labels : list of str, length n
    pictures : list of bytes
        JPEGs; empty where an image could not be read.
    unit : ndarray of shape (n, dim), float32
        Their vectors as the backbone gives them, scaled to length 1.
    """

    sha256: list[str]
    paths: list[str]
    labels: list[str]
    pictures: list[bytes]
    unit: np.ndarray

    def write(self, path: Path) -> None:
        """Write it as Parquet."""
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.unit.ravel()), self.unit.shape[1])
        columns = [self.sha256, self.paths, self.labels, self.pictures, vectors]
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns, COLUMNS), temporary, use_dictionary=False)

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read what `write` wrote; raises ArtifactError."""
        try:
            with pq.ParquetFile(path) as file:  # not read_table, which brings Arrow's dataset library: 30 MB
                table = file.read(use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{display_path(path)} cannot be read ({error}); train again.") from error
        if table.column_names != COLUMNS or not len(table):
            raise ArtifactError(f"{display_path(path)} is no reference of training images; train again.")
        texts = [table[name].to_pylist() for name in COLUMNS[:-1]]
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).copy()
        del table
        pa.default_memory_pool().release_unused()
        return cls(*texts, vectors)

    def extended(
        self, sha256: Sequence[str], paths: Sequence[str], labels: Sequence[str], files: Sequence[Path],
        vectors: np.ndarray, *, seed: int,
    ) -> "Reference":  # fmt: skip
        """This one with more images, at most MAX_IMAGES of all; those it has already get the label that is given."""
        rows = [row for row, name in enumerate(self.sha256) if name not in set(sha256)]
        texts = [
            [column[row] for row in rows] + list(more)
            for column, more in ((self.sha256, sha256), (self.paths, paths), (self.labels, labels))
        ]
        pictures = [self.pictures[row] for row in rows] + [_picture(file) for file in files]
        unit = np.concatenate([self.unit[rows], normalize(vectors).astype(np.float32)]) if len(files) else self.unit
        kept = np.sort(np.random.default_rng(seed).permutation(len(unit))[:MAX_IMAGES])
        drawn = [[column[row] for row in kept] for column in (*texts, pictures)]
        return Reference(*drawn, unit[kept])

    def cosines(self, vectors: np.ndarray) -> np.ndarray:
        """(m, dim) -> (m, n)."""
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors @ self.unit.T) / np.where(lengths > 0, lengths, 1)

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Distance, 1 - cosine, of each vector to its K-th nearest training image: (m, dim) -> (m,)."""
        return kth_distances(self.cosines(vectors))

    def own_distances(self) -> np.ndarray:
        """`distances` of the training images themselves, each one's own place left out; shape (n,)."""
        cosines = self.cosines(self.unit)
        np.fill_diagonal(cosines, -1)
        return kth_distances(cosines)

    def nearest(self, vector: np.ndarray, n_nearest: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the training images nearest to a vector of shape (dim,), and their distances; nearest first."""
        distances = 1 - self.cosines(vector[None])[0]
        places = np.argsort(distances, kind="stable")[:n_nearest]
        return places, distances[places]


def draw_reference(
    root: Path, sha256: Sequence[str], paths: Sequence[str], labels: Sequence[str], vectors: np.ndarray, *, seed: int
) -> Reference:
    """Take at most MAX_IMAGES training images as the reference.

    Parameters
    ----------
    root : Path
        Folder that the paths are relative to.
    sha256, paths, labels : sequences of str, length n
    vectors : ndarray of shape (n, dim), float32
    seed : int
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(paths))[:MAX_IMAGES])
    texts = [np.asarray(column, dtype=object)[rows].tolist() for column in (sha256, paths, labels)]
    pictures = [_picture(root / path) for path in texts[1]]
    return Reference(*texts, pictures, normalize(vectors[rows]).astype(np.float32))


def novelty_threshold(reference: Reference, known: np.ndarray, refused: float) -> float:
    """The distance beyond which an image is told as unknown, so that a share of those of known classes is too.

    Parameters
    ----------
    reference : Reference
    known : ndarray of shape (m, dim), float32
        Vectors of images of known classes that were not trained on: the validation part. Where it has fewer than K
        images the training images stand for it.
    refused : float
        Share of images of known classes told as unknown by mistake.
    """
    distances = reference.distances(known) if len(known) >= K else reference.own_distances()
    return float(np.quantile(distances, 1 - refused))


def _picture(path: Path) -> bytes:
    """A small JPEG of an image file; nothing where it cannot be read."""
    try:
        image = thumbnail(path.read_bytes(), SIDE)
    except (ImageError, OSError):
        return b""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
