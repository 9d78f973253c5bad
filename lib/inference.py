"""Encoders: preprocessed pixels in, float32 vectors out; the same for training and serving, without torch."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import cpu_count

from lib.errors import ArtifactError
from lib.images import RECIPE_VERSION, Preprocessing
from lib.storage import display_path, read_json, sha256_file, sha256_json

MODEL_FILE = "backbone.onnx"
CARD_FILE = "backbone.json"
_OPENING = threading.Lock()
PROBE_COSINE = 0.999  # least cosine between an int8 network's vector of noise here and where it was made


def n_cores() -> int:
    """CPU cores this process may use, by its affinity and a container's limit."""
    return cpu_count()


def probe(n: int, crop: int) -> np.ndarray:
    """Seeded noise images of shape (n, 3, crop, crop), float32, to compare two runtimes with."""
    return np.random.default_rng(0).standard_normal((n, 3, crop, crop)).astype(np.float32)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows: two (n, dim) -> (n,); 0 where one is all 0."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1)


class Encoder(Protocol):
    """Anything that turns preprocessed images into vectors, with the key its vectors are cached under.

    Sent to another process it arrives with nothing opened.
    """

    name: str
    fingerprint: str
    dim: int
    preprocessing: Preprocessing
    uses_gpu: bool

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3, crop, crop) float32 -> (n, dim) float32; row i belongs to image i."""

    def with_threads(self, n_threads: int) -> "Encoder":
        """The same encoder with n_threads a forward pass; it stays open for the next time it is asked for."""


@dataclass
class OnnxEncoder:
    """An exported backbone, run by ONNX Runtime on the CPU.

    Parameters
    ----------
    folder : Path
        Holds backbone.onnx and backbone.json, written by `lib.backbones.exporting` or `lib.backbones.quantizing`.
    n_threads : int
        Threads of one forward pass; 0 takes every core.
    """

    folder: Path
    n_threads: int = 0
    card: dict = field(init=False, repr=False)
    _session: Any = field(init=False, repr=False, compare=False, default=None)
    _others: dict[int, "OnnxEncoder"] = field(init=False, repr=False, compare=False, default_factory=dict)
    uses_gpu = False

    def __post_init__(self):
        self.card = read_json(self.folder / CARD_FILE)
        self.name: str = self.card["name"]
        self.fingerprint: str = self.card["fingerprint"]
        self.dim: int = self.card["dim"]
        self.preprocessing = Preprocessing.from_json(self.card["preprocessing"])

    @property
    def session(self) -> Any:
        """The ONNX Runtime session, made once, at first use after the file's checksum was compared.

        Raises
        ------
        ArtifactError
            If the file is missing, not the one that was exported, or computed otherwise by this machine.
        """
        if self._session is None:
            with _OPENING:  # threads that embed side by side share it
                if self._session is None:
                    self._session = self._open()
        return self._session

    def _open(self) -> Any:
        """Open the session."""
        import onnxruntime

        path = self.folder / MODEL_FILE
        if not path.exists() or sha256_file(path) != self.card["sha256"]:
            state = "damaged" if path.exists() else "missing"
            raise ArtifactError(
                f"{display_path(path)} is {state}; delete its folder and run the embedding stage again."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.n_threads or n_cores()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        if "probe" in self.card:
            self._compare_probe(session)
        return session

    def _compare_probe(self, session: Any) -> None:
        """Refuse an int8 network that this machine computes otherwise: without VNNI its sums overflow."""
        expected = np.array(self.card["probe"], dtype=np.float32)
        vector = session.run(["vector"], {"pixels": probe(1, self.preprocessing.crop)})[0]
        (cosine,) = cosines(vector, expected[None])
        if not cosine >= PROBE_COSINE:
            raise ArtifactError(
                f"This processor computes the int8 network {self.fingerprint} otherwise than the one that made it "
                f"(cosine {cosine:.4f}); train with -p precision fp32 to serve from here."
            )

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3, crop, crop) float32 -> (n, dim) float32; row i belongs to image i."""
        return self.session.run(["vector"], {"pixels": pixels})[0]

    def __reduce__(self) -> tuple:
        return OnnxEncoder, (self.folder, self.n_threads)

    def with_threads(self, n_threads: int) -> "OnnxEncoder":
        """This encoder with n_threads a forward pass; it stays open for the next time it is asked for."""
        if (n_threads or n_cores()) == (self.n_threads or n_cores()):
            return self
        if n_threads not in self._others:
            self._others.setdefault(n_threads, OnnxEncoder(self.folder, n_threads))
        return self._others[n_threads]

    def feature_map(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3, crop, crop) float32 -> (n, dim, rows, columns) float32, whose mean over the grid is the vector.

        Raises
        ------
        ArtifactError
            If the backbone does not end in global average pooling.
        """
        if not self.card["has_map"]:
            raise ArtifactError(
                f"Backbone {self.name} does not end in global average pooling, so it has no feature map."
            )
        return self.session.run(["map"], {"pixels": pixels})[0]


@dataclass
class RawPixels:
    """The baseline that knows nothing: the image squeezed to side x side pixels, values 0 to 1, as its own vector."""

    side: int = 32
    uses_gpu = False

    def __post_init__(self):
        self.name = f"raw pixels {self.side} x {self.side}"
        self.dim = 3 * self.side**2
        self.preprocessing = Preprocessing(self.side, self.side, "box", mean=(0.0,), std=(255.0,))
        self.fingerprint = "raw-pixels-" + sha256_json([RECIPE_VERSION, self.preprocessing.to_json()])[:8]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3, side, side) float32 -> (n, dim) float32."""
        return pixels.reshape(len(pixels), self.dim)

    def with_threads(self, n_threads: int) -> "RawPixels":
        """Itself: there is no forward pass."""
        return self
