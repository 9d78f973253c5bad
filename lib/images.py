"""Bytes -> checked, upright RGB pixels within limits -> what a network receives: one recipe for training and serving.

Pillow and NumPy only. Formats are told by content, never by a file's extension.
"""

import base64
import io
import struct
import zlib
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from lib.errors import ImageError, first_line

RECIPE_VERSION = 1  # raise when the same settings give other pixels: cached vectors are of the old ones then
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 100_000_000
MAX_PIXELS = 52_000_000  # a 50-megapixel phone photo passes, a decompression bomb does not
MAX_SIDE = 12_000
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels
ORIENTATION = 0x0112  # EXIF tag
TURNS = {  # its values but 1 (upright) -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on broken files, seen in its issues and by mutating files (tests/test_images.py).
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    OverflowError,
    AssertionError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class ImageInfo:
    """What a file's header says: format, width and height in pixels before EXIF rotation (of a TIFF: after it)."""

    format: str
    width: int
    height: int


def open_image(data: bytes) -> Image.Image:
    """Read an image's header and check it against the limits; no pixel is decoded.

    Parameters
    ----------
    data : bytes
        A whole file.

    Returns
    -------
    PIL.Image.Image
        Not loaded yet.

    Raises
    ------
    ImageError
        Kind "empty", "unsupported" (not one of FORMATS), "broken" or "too_large".
    """
    if not data:
        raise ImageError("the file is empty (0 bytes)", "empty")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{len(data):,} bytes, more than the {MAX_BYTES:,} allowed", "too_large")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"more pixels than the {MAX_PIXELS:,} allowed", "too_large") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})", "unsupported") from error
    except DECODE_ERRORS as error:
        raise ImageError(f"the header is broken ({first_line(error)})", "broken") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{width} x {height} pixels: there is nothing to see", "broken")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limits = f"{MAX_PIXELS:,} pixels and {MAX_SIDE:,} a side"
        raise ImageError(f"{width} x {height} pixels, more than the {limits} allowed", "too_large")
    return image


def inspect(data: bytes) -> ImageInfo:
    """Header facts of an image file; raises ImageError as `open_image` does."""
    with open_image(data) as image:
        return ImageInfo(image.format or "unknown", *image.size)


def decode(data: bytes, *, min_side: int = 0) -> Image.Image:
    """Decode a file to upright RGB, first frame, transparency on white.

    Parameters
    ----------
    data : bytes
        A whole file.
    min_side : int, pixels
        If positive, a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep at least
        this many pixels: several times faster for photos, and nearly the same vectors (tests/test_images.py).

    Returns
    -------
    PIL.Image.Image, mode RGB

    Raises
    ------
    ImageError
        As `open_image`, and kind "broken" if the pixels cannot be decoded in full.
    """
    image = open_image(data)
    try:
        if min_side:
            image.draft(image.mode, (min_side, min_side))
        image.load()
        return to_rgb(upright(image))
    except ImageError:
        raise
    except DECODE_ERRORS as error:
        reason = "the file is cut short" if "truncated" in str(error) else first_line(error)
        raise ImageError(f"the pixels cannot be decoded ({reason})", "broken") from error


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. EXIF data too damaged to be read says nothing, so the pixels stay as stored.

    ImageOps.exif_transpose would also write the EXIF data anew, which fails where any other tag is odd.
    """
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except DECODE_ERRORS:
        return image
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB: 16- and 32-bit grey scaled to 8 bits, transparency laid on BACKGROUND.

    An image that is RGB already comes back itself, not a copy.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image), image.mode)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        background = Image.new("RGB", layered.size, BACKGROUND)
        background.paste(layered, mask=layered.getchannel("A"))
        return background
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale grey values of shape (h, w) to uint8: 16-bit by 257, others by the range their maximum implies."""
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("some pixels are not finite numbers", "broken")
    peak = values.max()
    if mode == "F":
        top = next((top for top in (1.0, 255.0, 65535.0) if peak <= top), peak)
    elif mode == "I":
        top = next((top for top in (255.0, 65535.0) if peak <= top), peak)
    else:
        top = 65535.0
    np.clip(values, 0, top, out=values)  # in place: the largest picture allowed takes 200 MB here
    np.multiply(values, 255.0 / top, out=values)
    return np.rint(values, out=values).astype(np.uint8)


@dataclass(frozen=True)
class Preprocessing:
    """How an RGB image becomes a network's input: short side to `resize`, centre crop, normalise.

    Parameters
    ----------
    resize : int, pixels
        Length of the short side after scaling (antialiased).
    crop : int, pixels
        Side of the square cut from the centre.
    interpolation : {"bilinear", "bicubic", "box"}
    mean, std : tuple of float, one or three, in units of 0 to 255
        Per channel: (value - mean) / std.
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def decode_side(self) -> int:
        """Shortest side, in pixels, to which a large JPEG may be decoded."""
        return max(512, 2 * self.resize)

    def view(self, image: Image.Image) -> Image.Image:
        """What the network sees, as an RGB image of crop x crop pixels."""
        image = _trim(image)
        width, height = image.size
        size = tuple(self.resize * side // min(width, height) for side in (width, height))
        resized = image.resize(size, Image.Resampling[self.interpolation.upper()])
        left, top = (round((side - self.crop) / 2) for side in size)
        return resized.crop((left, top, left + self.crop, top + self.crop))

    def normalise(self, view: Image.Image) -> np.ndarray:
        """RGB image of (crop, crop) pixels -> ndarray (3, crop, crop), float32."""
        pixels = np.asarray(view).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels -= np.float32(self.mean)[:, None, None]  # in place: fresh memory costs more than the arithmetic
        pixels /= np.float32(self.std)[:, None, None]
        return pixels

    def pixels(self, data: bytes) -> np.ndarray:
        """A file's bytes -> ndarray (3, crop, crop), float32; raises ImageError as `decode` does."""
        return self.normalise(self.view(decode(data, min_side=self.decode_side)))

    def to_json(self) -> dict:
        """Plain values, also the part of a backbone's fingerprint that stands for preprocessing."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict) -> "Preprocessing":
        """Inverse of `to_json`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _trim(image: Image.Image, ratio: int = 4) -> Image.Image:
    """Cut an image far longer than wide to its centre, so that scaling a 2 x 10000 strip does not fill the memory.

    What is cut away lies outside any centre crop, so the result is the same.
    """
    width, height = image.size
    keep = ratio * min(width, height)
    if max(width, height) <= keep:
        return image
    keep += (max(width, height) - keep) % 2  # as much is cut on either side, or the centre would move
    left, top = max(0, (width - keep) // 2), max(0, (height - keep) // 2)
    return image.crop((left, top, left + min(width, keep), top + min(height, keep)))


def thumbnail(data: bytes, side: int) -> Image.Image:
    """Upright RGB picture that fits into side x side pixels, for reports; raises ImageError as `decode` does."""
    image = decode(data, min_side=side)
    image.thumbnail((side, side))
    return image


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes, kind: str) -> str:
    """An image file as text that a page can hold; `kind` is png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
