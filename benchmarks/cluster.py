"""What a Ray cluster costs over one process, and what a million images would cost: the same images by both engines.

The images are copies of the sample, each with another comment, so that no content repeats. On one machine Ray can only
lose: this measures how much, beside its start.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

from measuring import machine, table
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib.backbones import LITE0, Choice, load_backbone
from lib.embeddings import embed
from lib.inference import n_cores
from lib.progress import quiet
from lib.storage import PROJECT_ROOT, sha256_bytes

COUNTS = (1_000_000, 10_000_000, 100_000_000)


def write_copies(folder: Path, n: int) -> tuple[list[str], list[str]]:
    """n images with names and content hashes."""
    sources = sorted((PROJECT_ROOT / "data" / "sample").rglob("*.png"))
    paths, hashes = [], []
    for number in range(n):
        comment = PngInfo()
        comment.add_text("copy", str(number))
        path = folder / f"{number:06d}.png"
        Image.open(sources[number % len(sources)]).save(path, pnginfo=comment)
        paths.append(path.name)
        hashes.append(sha256_bytes(path.read_bytes()))
    return paths, hashes


def main() -> None:
    """Time both engines at two sizes; the slope is the cost of an image, the rest the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=2, default=[1024, 3072])
    options = parser.parse_args()
    small, large = options.sizes
    rows, per_image = [], {}
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_backbone(Choice(LITE0, "the benchmark asked for it"))
        data = Path(folder) / "images"
        data.mkdir()
        paths, hashes = write_copies(data, large)
        encoder.encode  # noqa: B018
        for engine in ("local", "ray"):
            seconds = {}
            for n in (small, large):
                started = perf_counter()
                cache = Path(folder) / f"{engine}-{n}"
                embed(data, paths[:n], hashes[:n], encoder, engine=engine, folder=cache, progress=quiet)
                seconds[n] = perf_counter() - started
            per_image[engine] = (seconds[large] - seconds[small]) / (large - small)
            start = seconds[small] - small * per_image[engine]
            rows.append((engine, seconds[small], seconds[large], 1000 * per_image[engine], start))
    print(f"EfficientNet-Lite0 in fp32, 28x28 PNG. {machine()}.\n")
    print(table(["engine", f"{small:,} images, s", f"{large:,} images, s", "ms an image", "start, s"], rows))
    hours = {engine: per_image[engine] * n_cores() / 3600 for engine in per_image}  # core hours an image
    print(f"\nCore hours, from these figures ({n_cores()} cores here):\n")
    print(table(["images", *hours], [(f"{n:,}", *(n * cost for cost in hours.values())) for n in COUNTS]))


if __name__ == "__main__":
    main()
