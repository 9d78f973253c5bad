"""Does embedding scale? The pipeline's first stage on 1,000 to 60,000 images: time and memory as the data grow.

Images: Fashion-MNIST written out as PNG files (Debian's package dataset-fashion-mnist, or --idx FOLDER with the four
original files). Each size runs with an empty cache, and again with all of it cached; the difference, over the number of
images, is what an image costs. Then, at the largest: unchanged; with 1 % new images; renamed.
"""

import argparse
import gzip
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from measuring import ROOT, machine, table
from PIL import Image

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def read_idx(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All 70,000 images, (n, 28, 28) uint8, and their class codes, training images first."""
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        sys.exit(f"{folder} has no Fashion-MNIST; apt-get install dataset-fashion-mnist, or give --idx FOLDER.")
    images, labels = [], []
    for part in ("train", "t10k"):
        for found, kind, offset in ((images, "images-idx3", 16), (labels, "labels-idx1", 8)):
            data = gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes())
            found.append(np.frombuffer(data, np.uint8, offset=offset))
    return np.concatenate(images).reshape(-1, 28, 28), np.concatenate(labels)


def write_files(folder: Path, images: np.ndarray, labels: np.ndarray, start: int) -> None:
    """Write images into class folders, named by their number."""
    for number, (pixels, code) in enumerate(zip(images, labels, strict=True), start):
        path = folder / CLASSES[code] / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def run_stage(data: Path, work: Path, *options: str) -> dict:
    """Run the embedding stage as a user does: seconds, CPU seconds, and the largest process."""
    task = "scale"
    environment = os.environ | {"ARTIFACTS_DIR": str(work / "artifacts"), "REPORTS_DIR": str(work / "reports")}
    command = [sys.executable, "-m", "lib.pipeline", "embedding", "--task", task, "-p", "data_dir", str(data), *options]
    started, before = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # A process between, whose children are this run's alone, so that its peak is not an earlier run's.
    code = "import resource, subprocess, sys; s = subprocess.run(sys.argv[1:], stdout=2).returncode; "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(s)"
    result = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall": perf_counter() - started,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak": int(result.stdout.split()[-1]) / 1e3,
    }


def plot(rows: list[tuple], path: Path) -> None:
    """Time an image and peak memory over the number of images."""
    import matplotlib.pyplot as plt

    n, per_image, peak = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(n, per_image, marker="o")
    left.set(xscale="log", ylim=(0, 1.3 * per_image.max()), xlabel="images", ylabel="ms an image", title="Cost")
    right.plot(n, peak, marker="o")
    right.set(xscale="log", ylim=(0, 1500), xlabel="images", ylabel="MB, largest process", title="Peak memory")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the sizes, then the largest again in three ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 15000, 60000])
    parser.add_argument("--idx", type=Path, default=DEBIAN, help="folder with the original files")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--plot", type=Path, help="file for the figure")
    options = parser.parse_args()
    images, labels = read_idx(options.idx)
    given = ("-p", "backbone", "efficientnet_lite0", "-p", "precision", options.precision)
    rows, again = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for size in sorted(options.sizes):
            data = work / f"images-{size}"
            write_files(data, images[:size], labels[:size], 0)
            if not rows:  # the backbone is exported once, which is no cost of any image
                run_stage(data, work, *given)
            shutil.rmtree(work / "artifacts" / "embeddings", ignore_errors=True)
            fresh, cached = run_stage(data, work, *given, "--force"), run_stage(data, work, *given, "--force")
            wall, cpu = (1000 * (fresh[kind] - cached[kind]) / size for kind in ("wall", "cpu"))
            rows.append((f"{size:,}", wall, cpu, fresh["wall"], cached["wall"], fresh["peak"], cached["peak"]))
            print(f"  {size:,} images: {fresh['wall']:.0f} s", file=sys.stderr, flush=True)
        new = size // 100
        again.append(("again, nothing changed: skipped", run_stage(data, work, *given)))
        write_files(data, images[size : size + new], labels[size : size + new], size)
        again.append((f"{new:,} new images", run_stage(data, work, *given)))
        data = data.rename(work / "renamed")
        again.append(("folder renamed", run_stage(data, work, *given)))
    print(f"Embedding with EfficientNet-Lite0 in {options.precision}, whole stage. {machine()}.\n")
    columns = ["images", "ms an image", "CPU ms an image", "seconds", "all cached, s", "peak MB", "all cached, MB"]
    print(table(columns, rows))
    print(f"\nThen, with {size:,} images:\n")
    print(table(["run", "seconds", "CPU s", "peak MB"], [(name, c["wall"], c["cpu"], c["peak"]) for name, c in again]))
    if options.plot:
        plot([(size, row[1], row[5]) for size, row in zip(sorted(options.sizes), rows, strict=True)], options.plot)


if __name__ == "__main__":
    main()
