"""How a model bears damaged images: blur, noise, compression, rotation (after Hendrycks and Dietterich 2019)."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from lib.images import decode
from lib.metrics import proportion
from lib.prediction import BATCH_SIZE, Predictor
from lib.progress import Progress, quiet

Level = float
SIDE = 512  # images are made no larger than this before they are damaged, so that a level means one thing


def reduced(image: Image.Image) -> Image.Image:
    """An image whose short side has at most SIDE pixels."""
    if min(image.size) <= SIDE:
        return image
    factor = SIDE / min(image.size)
    return image.resize([round(side * factor) for side in image.size], Image.Resampling.BILINEAR, reducing_gap=2)


def blur(image: Image.Image, percent: Level, draw: np.random.Generator) -> Image.Image:
    """Gaussian blur, its radius in per cent of the short side."""
    return image.filter(ImageFilter.GaussianBlur(percent / 100 * min(image.size)))


def noise(image: Image.Image, spread: Level, draw: np.random.Generator) -> Image.Image:
    """Gaussian noise of this standard deviation, in grey values of 255."""
    values = np.asarray(image, dtype=np.float32)
    values = values + draw.normal(0, spread, values.shape).astype(np.float32)
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: Level, draw: np.random.Generator) -> Image.Image:
    """JPEG of this quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(quality))
    return Image.open(buffer).convert("RGB")


def rotation(image: Image.Image, degrees: Level, draw: np.random.Generator) -> Image.Image:
    """Turned to one side or the other; what comes into view is the image's mean colour."""
    mean = tuple(int(value) for value in np.asarray(image).reshape(-1, 3).mean(axis=0))
    return image.rotate(degrees * draw.choice([-1, 1]), Image.Resampling.BILINEAR, fillcolor=mean)


# name -> function, unit, levels from mild to severe
CORRUPTIONS: dict[str, tuple[Callable[..., Image.Image], str, tuple[Level, ...]]] = {
    "blur": (blur, "% of the short side", (0.5, 1.5, 4.0)),
    "noise": (noise, "grey values", (10, 25, 50)),
    "JPEG": (jpeg, "quality", (40, 15, 5)),
    "rotation": (rotation, "degrees", (10, 25, 45)),
}


def corruption_curves(
    predictor: Predictor,
    root: Path,
    paths: Sequence[str],
    labels: np.ndarray,
    *,
    seed: int,
    progress: Progress = quiet,
) -> pd.DataFrame:
    """Accuracy on damaged copies of the same images.

    Parameters
    ----------
    predictor : Predictor
    root : Path
        Folder that `paths` are relative to.
    paths : sequence of str
        Images that can be decoded.
    labels : ndarray of shape (n,), int
    seed : int
    progress : callable

    Returns
    -------
    DataFrame
        Columns corruption, unit, severity (0: as they are), level, n, accuracy, low, high.
    """
    jobs = [("none", "", 0, 0.0)]
    jobs += [
        (name, unit, severity, level)
        for name, (_, unit, levels) in CORRUPTIONS.items()
        for severity, level in enumerate(levels, 1)
    ]
    rows = []
    for name, unit, severity, level in progress(jobs, len(jobs), "damaged copies, kinds"):
        draw = np.random.default_rng([seed, severity])
        right = 0
        for start in range(0, len(paths), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            pixels = np.stack([_damaged(predictor, root / path, name, level, draw) for path in paths[part]])
            right += int((predictor.proba(predictor.encoder.encode(pixels)).argmax(axis=1) == labels[part]).sum())
        share = proportion(right, len(paths))
        rows.append((name, unit, severity, level, len(paths), share.value, share.low, share.high))
    table = pd.DataFrame(rows, columns=["corruption", "unit", "severity", "level", "n", "accuracy", "low", "high"])
    intact = [table.iloc[:1].assign(corruption=name, unit=unit) for name, (_, unit, _) in CORRUPTIONS.items()]
    return pd.concat([*intact, table.iloc[1:]]).sort_values(["corruption", "severity"], ignore_index=True)


def told(table: pd.DataFrame) -> str:
    """What `corruption_curves` found, in words: the costliest damage, and which kinds hardly matter up to which level.

    A level hardly matters where its interval holds the accuracy on the images as they are.
    """
    intact = table.loc[table["severity"] == 0, "accuracy"].iloc[0]
    worst = table.loc[table["accuracy"].idxmin()]
    sentences = [
        f"Undamaged {intact:.3f}; the costliest is {worst['corruption']} ({worst['level']:g} {worst['unit']}): "
        f"{worst['accuracy']:.3f} (95 % CI {worst['low']:.3f} to {worst['high']:.3f})."
    ]
    borne = []
    for name, rows in table[table["severity"] > 0].groupby("corruption"):
        harmless = ((rows["low"] <= intact) & (intact <= rows["high"])).cummin()
        if harmless.any():
            borne.append(f"{name} to {rows.loc[harmless, 'level'].iloc[-1]:g} {rows['unit'].iloc[0]}")
    return " ".join([*sentences, f"No clear loss: {'; '.join(borne) or 'none of them'}."])


def _damaged(predictor: Predictor, path: Path, name: str, level: Level, draw: np.random.Generator) -> np.ndarray:
    """Preprocessed pixels of an image file after a corruption."""
    preprocessing = predictor.encoder.preprocessing
    image = decode(path.read_bytes(), min_side=preprocessing.decode_side)
    if name != "none":
        image = CORRUPTIONS[name][0](reduced(image), level, draw)
    return preprocessing.normalise(preprocessing.view(image))
