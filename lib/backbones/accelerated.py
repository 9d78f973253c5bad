"""A backbone on a GPU: torch in channels_last, half precision if asked, held against the export that serves."""

import platform
import sys
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.backbones.networks import build
from lib.errors import BackboneError
from lib.inference import OnnxEncoder

if TYPE_CHECKING:
    import torch

# Largest difference from the export that serves, relative to the largest value.
AGREEMENT = {"fp32": 1e-3, "fp16": 2e-2}
_ONE_AT_A_TIME = threading.Lock()


def gpu_device() -> str:
    """ "cuda" or "mps" where torch can use one, else "". torch is imported only where a GPU is likely."""
    is_mac = sys.platform == "darwin" and platform.machine() == "arm64"
    if not is_mac and not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        return ""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else ""


@dataclass
class TorchEncoder:
    """A backbone run by torch.

    Parameters
    ----------
    served : OnnxEncoder
        The same backbone's export, in fp32: what the service will run.
    weights : str
        The weights file that the export was made with, or "".
    device : {"cuda", "mps", "cpu"}
    precision : {"fp32", "fp16"}
        Either's vectors are cached apart from the export's: they differ in the last digits.
    """

    served: OnnxEncoder
    weights: str = ""
    device: str = "cuda"
    precision: str = "fp32"

    def __post_init__(self):
        self.name, self.dim, self.folder = self.served.name, self.served.dim, self.served.folder
        self.preprocessing = self.served.preprocessing
        self.card = self.served.card | {"precision": self.precision}
        self.fingerprint = f"{self.served.fingerprint}-torch-{self.precision}"
        self.uses_gpu = self.device != "cpu"

    @cached_property
    def network(self) -> "torch.nn.Module":
        """The network on its device, built at first use."""
        import torch

        network = build(self.name, self.weights)[0]
        dtype = torch.float16 if self.precision == "fp16" else torch.float32
        return network.to(device=self.device, dtype=dtype, memory_format=torch.channels_last)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3, crop, crop) float32 -> (n, dim) float32; row i belongs to image i."""
        import torch

        with _ONE_AT_A_TIME:
            return self._encode(torch.from_numpy(pixels))

    def _encode(self, batch: "torch.Tensor") -> np.ndarray:
        """`encode` for one thread: a GPU works on one batch at a time, and a network is built once."""
        import torch

        network = self.network
        if self.device == "cuda":
            batch = batch.pin_memory()
        dtype = next(network.parameters()).dtype
        batch = batch.to(self.device, dtype, non_blocking=True, memory_format=torch.channels_last)
        # TF32 rounds fp32 convolutions to ten bits: not the vectors that serve.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = network(batch)
        vector = output[0] if isinstance(output, tuple) else output
        return vector.float().cpu().numpy()

    def __reduce__(self) -> tuple:
        return TorchEncoder, (self.served, self.weights, self.device, self.precision)

    def with_threads(self, n_threads: int) -> "TorchEncoder":
        """Itself: torch has its own threads."""
        return self

    def check(self, pixels: np.ndarray) -> float:
        """Hold this encoder against the export that serves.

        Parameters
        ----------
        pixels : ndarray of shape (n, 3, crop, crop), float32

        Returns
        -------
        float
            Largest difference between the vectors, relative to the largest value.

        Raises
        ------
        BackboneError
            If it is above AGREEMENT.
        """
        expected = self.served.encode(pixels)
        difference = float(np.abs(self.encode(pixels) - expected).max() / np.abs(expected).max())
        if not difference <= AGREEMENT[self.precision]:
            raise BackboneError(
                f"{self.name} by torch on {self.device} in {self.precision} differs from the export that serves by "
                f"{difference:.1e}, over {AGREEMENT[self.precision]:.0e}; use -p runtime onnxruntime."
            )
        return difference
