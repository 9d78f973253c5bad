"""Mutants: image files as nobody would send them on purpose, each made again from its number."""

import struct
import zlib
from collections.abc import Callable
from random import Random

import oddities
from oddities import FORMATS, SIGNATURE, base, bases

SIZES = (0, 1, 2, 12_000, 12_001, 30_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


def mutant(number: int) -> tuple[str, bytes]:
    """The name of a mutant's kind, and its bytes; kinds take turns."""
    kinds = list(KINDS)
    kind = kinds[number % len(kinds)]
    return kind, KINDS[kind](Random(number))


def parts(data: bytes) -> list[bytes]:
    """A file cut into its chunks (PNG, WEBP), its segments before the pixels (JPEG), or blocks of 64 bytes."""
    if data.startswith(SIGNATURE):
        return _cut(data, 8, lambda place: 12 + struct.unpack_from(">I", data, place)[0])
    if data.startswith(b"RIFF"):
        return _cut(data, 12, lambda place: 8 + struct.unpack_from("<I", data, place + 4)[0])
    if data.startswith(b"\xff\xd8"):
        return _cut(data, 2, lambda place: _segment_length(data, place))
    return _cut(data, 64, lambda place: 64)


def _segment_length(data: bytes, place: int) -> int:
    """Bytes of a JPEG's segment; what begins with no marker is pixels, up to the end."""
    return 2 + struct.unpack_from(">H", data, place + 2)[0] if data[place] == 0xFF else len(data)


def _cut(data: bytes, start: int, length: Callable[[int], int]) -> list[bytes]:
    """Cut at `start`, and from there on behind as many bytes as `length` says of each place."""
    places = [0, start]
    while places[-1] + 12 <= len(data):
        places.append(places[-1] + length(places[-1]))
    found = [data[begin:end] for begin, end in zip(places, [*places[1:], len(data)], strict=True)]
    return [part for part in found if part] or [b""]


def bits_flipped(data: bytes, random: Random) -> bytes:
    """1 to 200 bits, all over the file or near its start."""
    found = bytearray(data)
    reach = random.choice([len(found), min(len(found), 200)])
    for _ in range(random.choice([1, 3, 20, 200]) if reach else 0):
        found[random.randrange(reach)] ^= 1 << random.randrange(8)
    return bytes(found)


def cut_short(data: bytes, random: Random) -> bytes:
    """Anything from nothing to all but a byte."""
    return data[: random.choice([random.randrange(len(data) or 1), len(data) - 1, min(len(data), 30)])]


def bytes_inserted(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice([1, 4, 1000])) + data[place:]


def bytes_removed(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + data[place + random.choice([1, 4, 1000]) :]


def part_repeated(data: bytes, random: Random) -> bytes:
    found = parts(data)
    place = random.randrange(len(found))
    return b"".join(found[:place] + [found[place]] * random.choice([2, 2, 100]) + found[place + 1 :])


def part_removed(data: bytes, random: Random) -> bytes:
    found = parts(data)
    found.pop(random.randrange(len(found)))
    return b"".join(found)


def parts_exchanged(data: bytes, random: Random) -> bytes:
    found = parts(data)
    one, other = random.sample(range(len(found)), 2) if len(found) > 1 else (0, 0)
    found[one], found[other] = found[other], found[one]
    return b"".join(found)


def headers_swapped(data: bytes, random: Random) -> bytes:
    """The start of another file, of any format, on the rest of this one."""
    length = random.choice([2, 4, 8, 12, 33, 64, 600])
    return base(random)[:length] + data[length:]


def sizes_rewritten(random: Random) -> bytes:
    """A file whose header tells another width and height."""
    format = random.choice(FORMATS)
    data = bytearray(random.choice(bases(format)))
    size = (random.choice(SIZES), random.choice(SIZES))
    for place, layout in _size_places(format, data):
        limit = 2 ** (8 * struct.calcsize(layout) // 2) - 1
        struct.pack_into(layout, data, place, *(min(side, limit) for side in size))
    if format == "PNG":
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def _size_places(format: str, data: bytearray) -> list[tuple[int, str]]:
    """Where a header tells the size, and how; of a TIFF the values of the first two tags, which are a word each."""
    if format == "JPEG":
        return [(data.index(b"\xff\xc0") + 5, ">HH")]
    if format == "TIFF":
        start = struct.unpack_from("<I", data, 4)[0]
        return [(start + 10, "<II"), (start + 22, "<II")]
    return {"PNG": [(16, ">II")], "BMP": [(18, "<II")], "GIF": [(6, "<HH")], "WEBP": [(26, "<HH")]}[format]


DAMAGES = {
    "bits flipped": bits_flipped,
    "cut short": cut_short,
    "bytes inserted": bytes_inserted,
    "bytes removed": bytes_removed,
    "part repeated": part_repeated,
    "part removed": part_removed,
    "parts exchanged": parts_exchanged,
    "headers swapped": headers_swapped,
}
ODDITIES = {
    "EXIF orientation": oddities.oriented,
    "odd EXIF, ICC or XMP": oddities.odd_metadata,
    "any mode of pixels": oddities.any_mode,
    "palette with transparency": oddities.transparent_palette,
    "several frames or pages": oddities.several_frames,
    "compressed TIFF": oddities.compressed_tiff,
    "progressive or odd JPEG": oddities.unusual_jpeg,
    "interlaced PNG": oddities.interlaced_png,
    "PNG of any depth": oddities.deep_png,
    "strip, 1x1 to 20000x1": oddities.strip,
    "garbage for pixels": oddities.garbage_pixels,
    "wrong checksum": oddities.wrong_checksum,
    "TIFF with a loop": oddities.looping_tiff,
}


def _damaged(damage: Callable, make: Callable[[Random], bytes] = base) -> Callable[[Random], bytes]:
    return lambda random: damage(make(random), random)


def odd_and_damaged(random: Random) -> bytes:
    """An unusual file, once or twice damaged."""
    data = random.choice(list(ODDITIES.values()))(random)
    for damage in random.choices(list(DAMAGES.values()), k=random.choice([1, 2])):
        data = damage(data, random)
    return data


KINDS: dict[str, Callable[[Random], bytes]] = {
    "sound": base,
    **{name: _damaged(damage) for name, damage in DAMAGES.items()},
    "sizes rewritten": sizes_rewritten,
    **ODDITIES,
    "unusual and damaged": odd_and_damaged,
    "bomb": oddities.bomb,
    "bomb by its header": oddities.bomb_by_header,
    "bomb in a chunk": oddities.hidden_bomb,
    "no image": oddities.no_image,
}
