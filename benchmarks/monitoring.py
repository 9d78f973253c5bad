"""Does the monitoring ring where there is a change, and only there? And what does a window of 100,000 answers cost?

Half of the images of every class but the last are trained on by the pipeline; windows are drawn of the other half, as
they are or changed, and held against the baseline as the monitoring stage does. Then 100,000 answers of one day are
written into a log and the stage itself is run on them.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from measuring import ROOT, machine, table
from month import deal, lay_out, run_pipeline
from PIL import Image, ImageEnhance, ImageFilter

TASK = "monitored"
LIMIT = 0.07  # of windows without a change
N_ANSWERS = 100_000
DAY = 86400.0


def camera(image: Image.Image) -> Image.Image:
    """As another camera takes it: warmer, half the detail, compressed harder."""
    red, green, blue = image.split()
    image = Image.merge(
        "RGB", (red.point(lambda v: min(255, round(1.1 * v))), green, blue.point(lambda v: round(0.85 * v)))
    )
    image = image.resize([max(1, side // 2) for side in image.size]).resize(image.size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


IMAGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "brightness -40 %": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "blur of 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "another camera": camera,
}
MIX, NEW = "a class 3 times as frequent", "a new class, 20 %"


def encoded(predictor: object, paths: list[Path], change: Callable) -> np.ndarray:
    """Vectors of changed images, (n, dim) float32."""
    vectors = []
    for start in range(0, len(paths), 32):
        pixels = []
        for path in paths[start : start + 32]:
            buffer = io.BytesIO()
            change(Image.open(path).convert("RGB")).save(buffer, "PNG")
            pixels.append(predictor.pixels(buffer.getvalue()))
        vectors.append(predictor.encoder.encode(np.stack(pixels)))
    return np.concatenate(vectors)


def places_of(change: str, labels: np.ndarray, n_known: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """A window's images: of the known ones, or a fifth of those of the new class, which come last."""
    if change == NEW:
        n_new = size // 5
        new = n_known + generator.permutation(len(labels) - n_known)[:n_new]
        return np.concatenate([generator.permutation(n_known)[: size - n_new], new])
    weights = np.ones(n_known)
    if change == MIX:
        weights[labels[:n_known] == generator.choice(np.unique(labels[:n_known]))] = 3.0
    return generator.choice(n_known, size, replace=False, p=weights / weights.sum())


def rings(
    baseline: object, views: dict, labels: np.ndarray, n_known: int, sizes: list[int], n_draws: int
) -> list[tuple]:
    """A row for each change and size: shares of windows that are a warning, and an alarm."""
    from lib.drift import LEVEL
    from lib.monitoring.verdicts import MONTH, compare

    rows = []
    for change in (*IMAGES, MIX, NEW):
        for size in sizes:
            p_values = []
            for number in range(n_draws if change != "none" else 5 * n_draws):
                places = places_of(change, labels, n_known, size, np.random.default_rng([size, number]))
                window = views[change if change in IMAGES else "none"].rows(places)
                verdict = compare(window, baseline.points, baseline.unseen, baseline.space.width, seed=number)
                p_values.append(verdict.p_value)
            shares = [float(np.mean(np.array(p_values) <= level)) for level in (LEVEL, LEVEL / MONTH)]
            rows.append((change, size, len(p_values), *(f"{share:.1%}" for share in shares), shares[0]))
            print(*rows[-1][:-1], file=sys.stderr, flush=True)
    return rows


def fill(predictor: object, vectors: np.ndarray) -> None:
    """Write N_ANSWERS answers of yesterday, without images."""
    from sqlalchemy import insert

    from lib.production import connect_to, default_url, predictions
    from lib.production.schema import prepare
    from lib.storage import production_dir

    production_dir(TASK).mkdir(parents=True, exist_ok=True)
    engine, generator = connect_to(default_url(TASK)), np.random.default_rng(0)
    prepare(engine)
    began = time.time() // DAY * DAY - DAY
    card = predictor.card
    for start in range(0, N_ANSWERS, 5000):
        drawn = vectors[generator.integers(len(vectors), size=5000)]
        drawn = (drawn + generator.normal(0, 0.01, drawn.shape)).astype("<f4")
        rows = [
            {
                "id": f"{start + i:032x}", "task": TASK, "created": began + DAY * (start + i) / N_ANSWERS,
                "version": card["version"], "arm": "champion", "label": card["classes"][i % len(card["classes"])],
                "probability": 0.9, "decision": "accepted", "distance": 0.2, "milliseconds": 10.0,
                "sha256": f"{start + i:064x}", "kept": False, "vector": drawn[i].tobytes(),
                "backbone": card["backbone"]["fingerprint"], "client": "c", "shadow_of": None,
            }
            for i in range(5000)
        ]  # fmt: skip
        with engine.begin() as connection:
            connection.execute(insert(predictions), rows)
    engine.dispose()


def cost_of_the_stage() -> tuple[float, float]:
    """Seconds and peak megabytes of the processes of the monitoring stage."""
    peak, ended = [0.0], threading.Event()
    command = [sys.executable, "-m", "lib.pipeline", "monitoring", "--task", TASK, "-p", "draws", "0"]
    started = time.perf_counter()
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def watch() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                peak[0] = max(peak[0], sum(member.memory_info().rss for member in tree) / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    status = process.wait()
    ended.set()
    thread.join()
    if status:
        sys.exit(f"The monitoring stage ended with status {status}.")
    return time.perf_counter() - started, peak[0]


def main() -> int:
    """Print the tables; 1 where it rings too often without a change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "sample", help="ten class folders")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200, 500], help="images of a window")
    parser.add_argument("--draws", type=int, default=100, help="windows of each change and size; 5 times without one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, parts = Path(name), deal(options.data, 0)
        os.environ |= {"ARTIFACTS_DIR": f"{name}/artifacts", "REPORTS_DIR": f"{name}/reports",
                       "PRODUCTION_DIR": f"{name}/production"}  # fmt: skip
        *known, new = parts.classes
        trained = {label: [*parts.first[label], *parts.sent[label][::2]] for label in known}
        unseen = {label: [*parts.sent[label][1::2], *parts.last[label]] for label in known}
        run_pipeline(os.environ.copy(), TASK, lay_out(folder / "data", trained))

        from lib.monitoring import make_baseline

        baseline = make_baseline(TASK)
        paths = [path for label in known for path in unseen[label]]
        labels = np.array([place for place, label in enumerate(known) for _ in unseen[label]])
        n_known = len(paths)
        paths += [*parts.first[new], *parts.sent[new], *parts.last[new]]
        labels = np.concatenate([labels, np.full(len(paths) - n_known, len(known))])
        vectors = {change: encoded(baseline.predictor, paths, function) for change, function in IMAGES.items()}
        views = {change: baseline.views(found) for change, found in vectors.items()}
        sizes = [size for size in options.sizes if size <= 0.8 * n_known]
        rows = rings(baseline, views, labels, n_known, sizes, options.draws)
        fill(baseline.predictor, vectors["none"][:n_known])
        seconds, megabytes = cost_of_the_stage()
    print(
        f"{machine()}; {options.data.name}: held against {baseline.told}; {n_known:,} unseen ones to draw windows of.\n"
    )
    columns = ["change", "images of a window", "windows", "warnings (p at most 0.05)", "alarms (p at most 0.05 / 30)"]
    print(table(columns, [row[:-1] for row in rows]))
    print(f"\nThe stage on a window of {N_ANSWERS:,} answers: {seconds:.0f} s, {megabytes:,.0f} MB at most.")
    return int(max(row[-1] for row in rows if row[0] == "none") > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
