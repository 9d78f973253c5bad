"""Many small pictures as one image file: what a page with hundreds of thumbnails can hold."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps

from lib.errors import ImageError
from lib.images import data_url, decode

QUALITIES = (75, 55, 35, 20)  # of JPEG, tried in turn
UNREADABLE = (224, 224, 224)  # the grey square that stands for an image that cannot be decoded


def sprite(root: Path, paths: Sequence[str], side: int, columns: int, *, limit: int = 1_000_000) -> str:
    """Thumbnails of image files in rows of `columns`, each `side` pixels wide and high, as a JPEG data URL.

    The quality is lowered until the file has at most `limit` bytes, or is the lowest.
    """
    sheet = Image.new("RGB", (side * columns, side * max(1, -(-len(paths) // columns))), UNREADABLE)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, tile in enumerate(pool.map(partial(_tile, root, side), paths)):
            sheet.paste(tile, (side * (number % columns), side * (number // columns)))
    for quality in QUALITIES:
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= limit:
            break
    return data_url(buffer.getvalue(), "jpeg")


def _tile(root: Path, side: int, path: str) -> Image.Image:
    """The centre square of an image file."""
    try:
        return ImageOps.fit(decode((root / path).read_bytes(), min_side=side), (side, side))
    except (ImageError, OSError):
        return Image.new("RGB", (side, side), UNREADABLE)
