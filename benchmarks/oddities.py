"""Image files that are whole but unusual, and files that claim or hide too much: one function a kind."""

import functools
import io
import struct
import zipfile
import zlib
from random import Random

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from sklearn.datasets import load_sample_images

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps
MODES = (
    [("PNG", mode) for mode in ("1", "L", "LA", "I;16", "P", "RGBA")]
    + [("TIFF", mode) for mode in ("1", "L", "LA", "I", "F", "I;16", "P", "RGBA", "CMYK", "YCbCr", "LAB")]
    + [("JPEG", "CMYK"), ("JPEG", "L"), ("WEBP", "RGBA"), ("BMP", "1"), ("BMP", "P"), ("GIF", "1"), ("GIF", "RGBA")]
)


@functools.cache
def photos() -> tuple[Image.Image, ...]:
    """Two photos of scikit-learn, 640 x 427, and four small parts of them."""
    whole = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    parts = [(0, 0, 28, 28), (100, 80, 260, 200), (300, 90, 365, 187), (40, 200, 240, 330)]
    return (*whole, *(whole[place % 2].crop(part) for place, part in enumerate(parts)))


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    """An image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@functools.cache
def bases(format: str) -> tuple[bytes, ...]:
    """The photos as files of a format."""
    return tuple(encode(photo, format) for photo in photos())


def base(random: Random) -> bytes:
    """A plain file of any format."""
    return random.choice(bases(random.choice(FORMATS)))


def small(random: Random) -> Image.Image:
    """One of the small photos."""
    return random.choice(photos()[2:])


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, packed: bytes, *, interlaced: bool = False) -> bytes:
    """A PNG file of any header and any compressed pixels, whether they fit or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def scanlines(pixels: np.ndarray) -> bytes:
    """Rows of pixels, uint8 of shape (h, w, channels), as a PNG has them: each behind the number of its filter."""
    return b"".join(b"\0" + row.tobytes() for row in pixels) if pixels.size else b""


def with_extra_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return data[:33] + chunk(kind, content) + data[33:]


def oriented(random: Random) -> bytes:
    """EXIF orientation 1 to 8, or one that the standard does not know."""
    exif = Image.Exif()
    exif[Base.Orientation] = random.choice([1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 255, 65535])
    return encode(small(random), random.choice(["JPEG", "PNG", "WEBP", "TIFF"]), exif=exif)


def odd_metadata(random: Random) -> bytes:
    """EXIF, ICC and XMP that are noise, or that begin well."""
    noise = random.randbytes(random.choice([1, 20, 3000]))
    kind = random.choice(["exif", "icc_profile", "xmp"])
    start = {"exif": b"Exif\0\0II*\0\x08\0\0\0", "icc_profile": struct.pack(">I", 2**31), "xmp": b"<x:xmpmeta"}[kind]
    return encode(small(random), random.choice(["JPEG", "PNG", "WEBP"]), **{kind: random.choice([start, b""]) + noise})


def any_mode(random: Random) -> bytes:
    """Every mode of pixels that a format can hold: 1 bit, 16 bits, 32 bits, floats, CMYK, palettes, alpha."""
    format, mode = random.choice(MODES)
    photo = small(random)
    if mode in ("I", "F", "I;16"):
        dtype = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        scale = random.choice([1, 257, 1 / 255]) if mode == "F" else 257
        return encode(Image.fromarray((np.asarray(photo.convert("L"), dtype=float) * scale).astype(dtype)), format)
    if mode == "LAB":
        return encode(Image.merge("LAB", photo.split()), format)
    return encode(photo.convert("RGB").convert(mode), format)


def transparent_palette(random: Random) -> bytes:
    """A palette with one transparent colour, or with one opacity a colour."""
    image = small(random).quantize(random.choice([2, 16, 256]))
    transparency = random.choice([0, 255, random.randbytes(random.choice([1, 16, 256]))])
    return encode(image, "PNG", transparency=transparency)


def several_frames(random: Random) -> bytes:
    """An animation, or a TIFF of several pages."""
    frames = [small(random).resize((40, 30)) for _ in range(random.choice([2, 5, 30]))]
    format = random.choice(["GIF", "PNG", "WEBP", "TIFF", "MPO"])
    return encode(frames[0], format, save_all=True, append_images=frames[1:])


def compressed_tiff(random: Random) -> bytes:
    """A TIFF by each of its compressions."""
    compression = random.choice(["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
    return encode(small(random).convert("1" if compression == "group4" else "RGB"), "TIFF", compression=compression)


def unusual_jpeg(random: Random) -> bytes:
    """Progressive, with restart markers, any subsampling and quality, with a comment."""
    options = {"progressive": random.random() < 0.7, "quality": random.choice([1, 50, 95, 100])}
    restart = {"restart_marker_blocks": random.choice([1, 7])} if random.random() < 0.5 else {}
    return encode(
        random.choice(photos()), "JPEG", subsampling=random.randrange(3), comment=b"\0" * 9, **options, **restart
    )


def interlaced_png(random: Random) -> bytes:
    """Adam7."""
    pixels = np.asarray(small(random))
    passes = b"".join(scanlines(pixels[y::down, x::right]) for x, y, right, down in ADAM7)
    return png(pixels.shape[1], pixels.shape[0], 8, 2, zlib.compress(passes), interlaced=True)


def deep_png(random: Random) -> bytes:
    """Any depth and colour type, also those that do not go together."""
    depth, colour = random.choice([1, 2, 4, 8, 16]), random.choice(list(CHANNELS))
    width, height = random.randrange(1, 70), random.randrange(1, 70)
    row = (width * depth * CHANNELS[colour] + 7) // 8
    lines = b"".join(bytes([random.randrange(5)]) + random.randbytes(row) for _ in range(height))
    return png(width, height, depth, colour, zlib.compress(lines))


def strip(random: Random) -> bytes:
    """One pixel, and long strips of one to three pixels' width."""
    long, short = random.choice([1, 2, 1000, 12_000, 20_000]), random.choice([1, 1, 2, 3])
    size = random.choice([(long, short), (short, long)])
    return encode(Image.new("RGB", size, (200, 30, 90)), random.choice(FORMATS[:2] + FORMATS[3:]))


@functools.cache
def black(width: int, height: int) -> bytes:
    """A PNG of 1 bit a pixel: 9,000 x 9,000 pixels are 10 kB."""
    line = bytes(1 + (width + 7) // 8)
    return png(width, height, 1, 0, zlib.compress(line * height, 9))


def bomb(random: Random) -> bytes:
    """A small file of many pixels: 81 million and more, and at times just within the service's limits."""
    if random.random() < 0.1:
        return black(7000, 7000)
    return black(*random.choice([(9000, 9000), (10_000, 10_000), (12_000, 12_000), (12_001, 3000), (3000, 20_000)]))


def bomb_by_header(random: Random) -> bytes:
    """A header that claims many pixels, with few or none behind it."""
    side = random.choice([7000, 9000, 30_000, 65_535, 2**31 - 1, 2**32 - 1])
    other = random.choice([side, 1, 100])
    return png(side, other, random.choice([1, 8, 16]), random.choice([0, 2, 6]), zlib.compress(bytes(1000)))


@functools.cache
def zeros(megabytes: int) -> bytes:
    """So many million zeros, compressed."""
    return zlib.compress(bytes(megabytes * 10**6), 9)


def hidden_bomb(random: Random) -> bytes:
    """A sound PNG with text or a colour profile that unpacks to many megabytes, or with pixels that go on and on."""
    plain = bases("PNG")[2]
    kind, head = random.choice(
        [(b"zTXt", b"Comment\0\0"), (b"iCCP", b"profile\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"", b"")]
    )
    packed = zeros(random.choice([1, 20, 100]))
    return with_extra_chunk(plain, kind, head + packed) if kind else png(28, 28, 8, 2, packed)


def garbage_pixels(random: Random) -> bytes:
    """A sound PNG header before pixels that are no zlib stream, one of noise, or one that ends too soon."""
    packed = zlib.compress(random.randbytes(3000))
    content = random.choice([random.randbytes(500), b"", packed, packed[:100], packed[:2] + random.randbytes(90)])
    return png(28, 28, 8, 2, content)


def wrong_checksum(random: Random) -> bytes:
    """A PNG of which one chunk's checksum is wrong."""
    data = bytearray(random.choice(bases("PNG")))
    place = random.choice([29, len(data) - 20, len(data) - 4])  # of the header, the pixels, the end
    data[place : place + 4] = random.randbytes(4)
    return bytes(data)


def looping_tiff(random: Random) -> bytes:
    """A TIFF whose directory names itself as the next one, or as that of its EXIF data."""
    data = bytearray(random.choice(bases("TIFF")[2:]))
    start = struct.unpack_from("<I", data, 4)[0]
    end = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, end, start)
    if random.random() < 0.5:
        struct.pack_into("<HHII", data, end - 12, Base.ExifOffset, 4, 1, start)
    return bytes(data)


def no_image(random: Random) -> bytes:
    """Empty, text, HTML, SVG, PDF, a zip file, noise; at times behind the first bytes of an image."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("photo.png"), bases("PNG")[2])
    others = [b"", b"text\n", b"<!doctype html><p>text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 5000]
    others += [b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF", archive.getvalue(), random.randbytes(2000)]
    start = random.choice([b"", base(random)[: random.choice([2, 8, 30])]])
    return start + random.choice(others)
