"""What an image looks like in a few numbers, and a small grey copy to tell re-encoded pictures by.

An encoder like any backbone, so its results are cached by content and computed by every core.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.fft import dctn

from lib.images import RECIPE_VERSION, Preprocessing
from lib.storage import sha256_json

MEASURES = ["brightness", "darkest", "brightest", "contrast", "sharpness"]
HASH_SIDE = 8  # of the block of slow cosines whose signs are the hash
GREY_SIDE = 16  # of the small copy
VERSION = 1  # raise when the same image gives other numbers


@dataclass(frozen=True)
class Appearances:
    """What many images look like.

    Parameters
    ----------
    measures : DataFrame of n rows
        MEASURES, from 0 (black) to 1 (white): mean, 1st and 99th percentile and standard deviation of the grey values;
        sharpness is the root mean square of their Laplacian over their standard deviation.
    hashes : ndarray of shape (n, HASH_SIDE**2 - 1), float32, of -1 and 1
        Perceptual hash (pHash): on which side of their median the slowest cosines of the image lie.
    greys : ndarray of shape (n, GREY_SIDE**2), float32
        The image as a small grey one, less its mean and of length 1: the product of two rows is their correlation.
    """

    measures: pd.DataFrame
    hashes: np.ndarray
    greys: np.ndarray


@dataclass
class Appearance:
    """The encoder: the centre square of an image, seen by no network."""

    side: int = 224
    uses_gpu = False

    def __post_init__(self):
        self.name = "appearance"
        self.dim = len(MEASURES) + HASH_SIDE**2 - 1 + GREY_SIDE**2
        self.preprocessing = Preprocessing(self.side, self.side, "bilinear", mean=(0.0,), std=(255.0,))
        self.fingerprint = "appearance-" + sha256_json([VERSION, RECIPE_VERSION, self.preprocessing.to_json()])[:8]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3, side, side) float32 -> (n, dim) float32: measures, hash, small grey copy."""
        grey = np.tensordot(pixels, np.float32([0.299, 0.587, 0.114]), axes=(1, 0))  # (n, side, side), as in JPEG
        parts = (_measures(grey), _hashes(_shrunk(grey, 32)), _greys(_shrunk(grey, GREY_SIDE)))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def with_threads(self, n_threads: int) -> "Appearance":
        """Itself: there is no forward pass."""
        return self


def appearances(vectors: np.ndarray) -> Appearances:
    """What `Appearance` encoded, shape (n, dim), taken apart."""
    measures, hashes, greys = np.split(vectors, [len(MEASURES), len(MEASURES) + HASH_SIDE**2 - 1], axis=1)
    return Appearances(pd.DataFrame(measures, columns=MEASURES), hashes, greys)


def _measures(grey: np.ndarray) -> np.ndarray:
    """(n, side, side) -> (n, len(MEASURES))."""
    flat = grey.reshape(len(grey), -1)
    low, high = np.percentile(flat, [1, 99], axis=1)
    contrast = flat.std(axis=1)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, 2:, 1:-1] + grey[:, :-2, 1:-1] + grey[:, 1:-1, 2:] + grey[:, 1:-1, :-2] - 4 * inner
    sharpness = np.sqrt((laplacian**2).mean(axis=(1, 2))) / np.maximum(contrast, 1e-3)
    return np.column_stack([flat.mean(axis=1), low, high, contrast, sharpness])


def _shrunk(grey: np.ndarray, side: int) -> np.ndarray:
    """(n, s, s) -> (n, side, side) by the mean of whole blocks; s is a multiple of side."""
    step = grey.shape[1] // side
    return grey.reshape(len(grey), side, step, side, step).mean(axis=(2, 4))


def _hashes(small: np.ndarray) -> np.ndarray:
    """(n, s, s) -> (n, HASH_SIDE**2 - 1) of -1 and 1."""
    slow = dctn(small, axes=(1, 2), norm="ortho")[:, :HASH_SIDE, :HASH_SIDE].reshape(len(small), -1)[:, 1:]
    return np.where(slow > np.median(slow, axis=1, keepdims=True), 1, -1)


def _greys(small: np.ndarray) -> np.ndarray:
    """(n, s, s) -> (n, s * s), each row less its mean and of length 1, or all 0 where the image is flat."""
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(length > 1e-3, length, np.inf)
