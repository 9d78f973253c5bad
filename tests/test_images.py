import io
import random
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from lib import images
from lib.errors import ImageError
from lib.images import Preprocessing, decode, inspect, thumbnail

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
RECIPE = Preprocessing(resize=16, crop=14, interpolation="bilinear", mean=(0.0,), std=(1.0,))


def encode(image, format, **options):
    """An image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(*rows, dtype=np.uint8, mode=None):
    """A Pillow image of these rows of pixels."""
    image = Image.fromarray(np.array(rows, dtype=dtype))
    return image.convert(mode) if mode else image


def values(data):
    """Decoded pixels as nested lists of (r, g, b)."""
    return [[tuple(pixel) for pixel in row] for row in np.asarray(decode(data)).tolist()]


def png_header(width, height):
    """A PNG of which nothing but the header is sound: decoding one pixel of it would fail."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"no pixels") + chunk(b"IEND", b"")


def refused(data, read=decode):
    """Kind of the ImageError that reading raises."""
    with pytest.raises(ImageError) as error:
        read(data)
    return error.value.kind


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Where the EXIF standard says a picture's 0th row and 0th column lie -> the pixels a camera stores.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright[:, ::-1].transpose(1, 0, 2),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: upright[::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95, "subsampling": 0})],
)
def test_a_picture_is_upright_whichever_way_the_camera_was_held(format, options, orientation):
    upright = np.kron(noise(3, 2), np.ones((16, 16, 1), dtype=np.uint8))
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))), format, exif=exif, **options)
    decoded = np.asarray(decode(data)).astype(int)
    assert decoded.shape == (32, 48, 3)
    assert np.abs(decoded - upright).max() <= (6 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 600])
def test_an_unknown_orientation_says_nothing(orientation):
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    assert values(encode(picture([RED, BLUE]), "PNG", exif=exif)) == [[RED, BLUE]]


def test_a_sound_picture_with_an_odd_exif_tag_is_turned_and_not_refused():
    orientation = struct.pack("<HHIHH", images.ORIENTATION, 3, 1, 6, 0)
    resolution_as_text = struct.pack("<HHI4s", 0x011A, 2, 1, b"a\0\0\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + resolution_as_text + struct.pack("<I", 0)
    assert values(encode(picture([RED, BLUE]), "PNG", exif=exif)) == [[RED], [BLUE]]


def test_exif_that_cannot_be_read_leaves_the_pixels_as_stored():
    assert values(encode(picture([RED, BLUE]), "PNG", exif=b"Exif\0\0no TIFF header")) == [[RED, BLUE]]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_gradation(format):
    data = encode(picture([0, 257, 25700, 65535], dtype=np.uint16), format)
    assert values(data) == [[(0,) * 3, (1,) * 3, (100,) * 3, (255,) * 3]]


@pytest.mark.parametrize(
    ("stored", "dtype", "expected"),
    [
        ([0, 0.2, 1], np.float32, [0, 51, 255]),
        ([0, 51, 255], np.float32, [0, 51, 255]),
        ([0, 257, 65535], np.float32, [0, 1, 255]),
        ([0, 20000, 100000], np.float32, [0, 51, 255]),
        ([-3e38, 0.2, 1], np.float32, [0, 51, 255]),
        ([0, 0, 0], np.float32, [0, 0, 0]),
        ([0, 100, 255], np.int32, [0, 100, 255]),
        ([-5, 257, 65535], np.int32, [0, 1, 255]),
        ([0, 20000, 100000], np.int32, [0, 51, 255]),
    ],
)
def test_32_bit_grey_is_scaled_by_the_range_its_maximum_implies(stored, dtype, expected):
    assert values(encode(picture(stored, dtype=dtype), "TIFF")) == [[(value,) * 3 for value in expected]]


def test_scaling_16_bit_grey_takes_six_bytes_a_pixel():
    million = encode(picture(*np.zeros((1000, 1000)), dtype=np.uint16), "PNG")
    image = images.open_image(million)
    image.load()
    tracemalloc.start()
    images.to_rgb(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7_000_000  # float64 and copies of it would take 24 million


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_grey_that_is_no_number_is_refused(value):
    assert refused(encode(picture([0, value], dtype=np.float32), "TIFF")) == "broken"


def test_transparency_lies_on_white():
    rgba = picture([(9, 9, 9, 0), (0, 0, 0, 128), (7, 8, 9, 255)])
    assert values(encode(rgba, "PNG")) == [[WHITE, (127, 127, 127), (7, 8, 9)]]
    assert values(encode(rgba, "WEBP", lossless=True, exact=True)) == [[WHITE, (127, 127, 127), (7, 8, 9)]]
    grey = Image.merge("LA", (picture([9, 7]), picture([0, 255])))
    assert values(encode(grey, "PNG")) == [[WHITE, (7, 7, 7)]]


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_palette_keeps_its_colours_and_its_transparent_one_is_white(format):
    palette = picture([0, 1, 1]).copy()
    palette.putpalette([*RED, *BLUE])
    assert palette.mode == "P"
    assert values(encode(palette, format)) == [[RED, BLUE, BLUE]]
    assert values(encode(palette, format, transparency=0)) == [[WHITE, BLUE, BLUE]]


def test_a_transparent_colour_of_an_rgb_or_grey_png_is_white():
    assert values(encode(picture([RED, BLUE]), "PNG", transparency=RED)) == [[WHITE, BLUE]]
    assert values(encode(picture([5, 6]), "PNG", transparency=5)) == [[WHITE, (6, 6, 6)]]


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_1_bit_is_black_and_white(format):
    assert values(encode(picture([0, 255], mode="1"), format)) == [[(0, 0, 0), WHITE]]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(format):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    pixel = decode(encode(cyan, format)).getpixel((8, 8))
    assert np.abs(np.subtract(pixel, (0, 255, 255))).max() <= 2


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_counts(format):
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), BLUE)
    data = encode(first, format, save_all=True, append_images=[second])
    with images.open_image(data) as image:
        assert image.n_frames == 2
    for min_side in (0, 4):
        assert np.abs(np.subtract(decode(data, min_side=min_side).getpixel((0, 0)), RED)).max() <= 3


@pytest.mark.parametrize("format", images.FORMATS)
def test_the_format_and_size_are_told_by_content(format):
    assert inspect(encode(Image.new("RGB", (5, 3)), format)) == images.ImageInfo(format, 5, 3)


@pytest.mark.parametrize("format", images.FORMATS)
def test_a_file_cut_in_half_has_a_header_and_no_pixels(format):
    data = encode(Image.fromarray(noise(64, 64)), format)
    half = data[: len(data) // 2]
    if format not in ("TIFF", "WEBP"):  # these are read from an index at the end, or in one piece
        assert (inspect(half).width, inspect(half).height) == (64, 64)
    assert refused(half) in ("broken", "unsupported")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"not an image\n", "unsupported"),
        (b"\0" * 1000, "unsupported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (encode(Image.new("RGB", (4, 4)), "PPM"), "unsupported"),
        (encode(Image.new("RGB", (4, 4)), "ICO", sizes=[(4, 4)]), "unsupported"),
    ],
)
def test_what_is_no_image_of_a_known_format_is_refused_by_kind(data, kind):
    assert refused(data) == refused(data, inspect) == refused(data, RECIPE.pixels) == kind


def test_a_file_of_too_many_bytes_is_refused(monkeypatch):
    data = encode(Image.new("RGB", (4, 4)), "PNG")
    monkeypatch.setattr(images, "MAX_BYTES", len(data) - 1)
    assert refused(data) == "too_large"


@pytest.mark.parametrize("size", [(10_000, 10_000), (20_000, 10_000), (12_001, 1), (1, 12_001), (7_212, 7_212)])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_picture_over_the_limits_is_refused_by_its_header(monkeypatch, size, action):
    def load(image):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert refused(png_header(*size)) == refused(png_header(*size), inspect) == "too_large"


@pytest.mark.parametrize("size", [(12_000, 1), (1, 12_000), (7_211, 7_211)])
def test_a_picture_just_within_the_limits_is_not_too_large(size):
    info = inspect(png_header(*size))
    assert (info.width, info.height) == size


def spy_on_resize(monkeypatch):
    """Sizes to which pictures are scaled from now on."""
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, size, *rest: (sizes.append(tuple(size)), resize(image, size, *rest))[1]
    )
    return sizes


def test_a_2_by_10000_strip_is_never_scaled_to_its_full_length(monkeypatch):
    recipe = Preprocessing(resize=256, crop=224, interpolation="bicubic", mean=(0.0,), std=(1.0,))
    sizes = spy_on_resize(monkeypatch)
    for size in ((2, 10_000), (10_000, 2)):
        assert recipe.pixels(encode(Image.new("RGB", size, RED), "PNG")).shape == (3, 224, 224)
    assert sizes == [(256, 1024), (1024, 256)]  # and not 256 x 1,280,000


@pytest.mark.parametrize("size", [(2, 1000), (2, 1001), (1000, 2), (1001, 2), (3, 700), (701, 3), (1, 12), (13, 1)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
def test_trimming_a_strip_leaves_its_centre_view_as_it_is(monkeypatch, size, interpolation):
    recipe = Preprocessing(resize=18, crop=14, interpolation=interpolation, mean=(0.0,), std=(1.0,))
    strip = Image.fromarray(noise(*size))
    trimmed = np.asarray(recipe.view(strip)).astype(int)
    monkeypatch.setattr(images, "_trim", lambda image: image)
    assert np.abs(trimmed - np.asarray(recipe.view(strip))).max() <= 1


def test_a_large_jpeg_is_decoded_smaller_with_nearly_the_same_view():
    recipe = Preprocessing(resize=256, crop=224, interpolation="bilinear", mean=(0.0,), std=(1.0,))
    photo = Image.fromarray(noise(24, 21)).resize((2400, 2100), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    assert recipe.decode_side == 512
    assert decode(encode(photo, "JPEG"), min_side=512).size == (600, 525)  # a quarter; an eighth would be 300 x 262
    assert decode(encode(photo, "JPEG", exif=exif), min_side=512).size == (525, 600)
    assert decode(encode(photo.crop((0, 0, 2400, 2047)), "JPEG"), min_side=512).size == (1200, 1024)
    assert decode(encode(photo, "PNG"), min_side=512).size == (2400, 2100)
    data = encode(photo, "JPEG", quality=90)
    difference = np.abs(recipe.pixels(data) - recipe.normalise(recipe.view(decode(data))))
    assert difference.mean() < 1
    assert difference.max() < 10


@pytest.mark.parametrize(
    ("size", "scaled"), [((40, 80), (256, 512)), ((80, 40), (512, 256)), ((20, 45), (256, 576)), ((49, 98), (256, 512))]
)
def test_the_short_side_is_scaled_to_resize_and_the_long_one_in_proportion(monkeypatch, size, scaled):
    sizes = spy_on_resize(monkeypatch)
    Preprocessing(256, 224, "bilinear", (0.0,), (1.0,)).view(Image.new("RGB", size))
    assert sizes == [scaled]


def test_no_long_side_loses_a_pixel_to_rounding(monkeypatch):
    sizes = spy_on_resize(monkeypatch)
    Preprocessing(224, 224, "bilinear", (0.0,), (1.0,)).view(Image.new("RGB", (20, 45)))
    assert sizes == [(224, 504)]  # 224 * 45 / 20 = 504 exactly; in floating point 45 * (224 / 20) is less


def test_the_view_is_cut_from_the_centre():
    columns = picture([(20 * column,) * 3 for column in range(12)]).resize((12, 4), Image.Resampling.NEAREST)
    view = Preprocessing(resize=4, crop=2, interpolation="bilinear", mean=(0.0,), std=(1.0,)).view(columns)
    assert np.asarray(view)[:, :, 0].tolist() == [[100, 120], [100, 120]]  # columns 5 and 6 of 0 to 11


def test_pixels_of_a_plain_picture_are_its_colour_normalised():
    data = encode(Image.new("RGB", (50, 40), (10, 20, 30)), "PNG")
    pixels = Preprocessing(16, 14, "bicubic", mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 5.0)).pixels(data)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((3, 14, 14), np.float32, True)
    expected = np.array([4.5, 4.5, 5.4], dtype=np.float32)  # (10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 5
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected[:, None, None], (3, 14, 14)))


def test_one_mean_and_deviation_stand_for_all_three_channels():
    data = encode(Image.new("RGB", (14, 14), (127, 255, 63)), "PNG")
    pixels = Preprocessing(14, 14, "box", mean=(127.0,), std=(128.0,)).pixels(data)
    assert pixels[:, 0, 0].tolist() == [0.0, 1.0, -0.5]


def test_a_recipe_survives_json():
    recipe = Preprocessing(256, 224, "bicubic", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    assert recipe.to_json() == {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
    }
    assert Preprocessing.from_json(recipe.to_json()) == recipe


def test_a_thumbnail_fits_its_square_and_keeps_its_proportions():
    assert thumbnail(encode(Image.new("RGB", (400, 200)), "JPEG"), 100).size == (100, 50)
    assert thumbnail(encode(Image.new("RGB", (10, 20)), "PNG"), 100).size == (10, 20)
    assert thumbnail(encode(Image.new("RGB", (12_000, 1)), "PNG"), 100).size == (100, 1)


def small_files():
    """One small valid file of every format and many of their kinds."""
    photo = Image.fromarray(noise(16, 12))
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    palette, frames = photo.quantize(16), {"save_all": True, "append_images": [photo.rotate(180)]}
    return [
        encode(photo, "JPEG", exif=exif),
        encode(photo, "JPEG", progressive=True),
        encode(photo.convert("CMYK"), "JPEG"),
        encode(photo, "MPO", **frames),
        encode(photo, "PNG", exif=exif),
        encode(photo, "PNG", **frames),
        encode(palette, "PNG", transparency=3),
        encode(photo.convert("LA"), "PNG"),
        encode(photo.convert("1"), "PNG"),
        encode(Image.fromarray(noise(16, 12)[:, :, 0].astype(np.uint16) * 257), "PNG"),
        encode(photo, "WEBP"),
        encode(photo.convert("RGBA"), "WEBP", lossless=True, exif=exif),
        encode(photo, "WEBP", **frames),
        encode(photo, "BMP"),
        encode(palette, "BMP"),
        encode(palette, "GIF", transparency=2),
        encode(photo, "GIF", **frames),
        *(encode(photo, "TIFF", compression=name, exif=exif) for name in ("raw", "tiff_lzw", "jpeg", "packbits")),
        encode(photo.convert("1"), "TIFF", compression="group4"),
        encode(Image.fromarray(noise(16, 12)[:, :, 0].astype(np.float32)), "TIFF"),
    ]


def mutated(files, draw):
    """A damaged copy of one of the files: changed bytes, a cut, another file's header, or a hole."""
    data = bytearray(draw.choice(files))
    kind = draw.random()
    if kind < 0.6:
        reach = min(len(data), draw.choice((40, 400, len(data))))  # most of the meaning is at the start
        for _ in range(draw.choice((1, 2, 4, 16))):
            place = draw.randrange(reach)
            data[place] = draw.choice((data[place] ^ (1 << draw.randrange(8)), draw.randrange(256), 0, 255))
        return bytes(data)
    if kind < 0.75:
        return bytes(data[: draw.randrange(len(data))])
    if kind < 0.9:
        size = draw.randrange(4, 60)
        return draw.choice(files)[:size] + bytes(data[size:])
    start, stop = sorted(draw.randrange(len(data)) for _ in range(2))
    return bytes(data[:start] + data[stop:])


def test_of_10000_damaged_files_each_is_read_or_refused_with_an_image_error():
    files, draw = small_files(), random.Random(0)
    seen = {"read": 0, "empty": 0, "unsupported": 0, "broken": 0, "too_large": 0}
    for _ in range(10_000):
        data = mutated(files, draw)
        try:
            pixels = RECIPE.pixels(data)
        except ImageError as error:
            seen[error.kind] += 1
        else:
            assert pixels.shape == (3, 14, 14)
            seen["read"] += 1
    assert min(seen["read"], seen["unsupported"], seen["broken"], seen["too_large"]) > 0, seen
