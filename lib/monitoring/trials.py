"""Can the alarm be believed? How often it rings for nothing and for a change, tried on the task's own images."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.random import default_rng
from PIL import Image, ImageEnhance, ImageFilter

from lib.drift import LEVEL, N_FULL, N_QUICK, together
from lib.errors import ImageError, ParameterError
from lib.images import decode
from lib.inference import Encoder
from lib.metrics import proportion
from lib.monitoring.baseline import Baseline, Views
from lib.monitoring.crossfit import Pool, make_pool
from lib.monitoring.record import read_trials, write_trials
from lib.monitoring.verdicts import MONTH, compare, compare_points, one_thread
from lib.progress import Progress, quiet
from lib.provenance import library_hash
from lib.robustness import reduced

SIZES = (50, 100, 200, 500)
MONTHLY_SIZE = 100
DARKER, BLUR, MORE, NEW = 0.6, 2.0, 3.0, 0.2  # brightness left, radius in pixels, times as frequent, share
DARK, BLURRED, MIX, UNKNOWN = "brightness -40 %", "blur of 2 px", "a class 3 times as frequent", "a new class, 20 %"
CHANGED_IMAGES = 700  # that are darkened and blurred
SPARE = 1.2  # images that a pool needs, by those of a window
REFERENCE = 500  # images that a trial's window is held against: half of those of a real one, for the sake of time
N_DRAWS, N_MONTHS, N_POWER = 500, 100, 100  # by default: windows of each size, months, windows of each change and size
BATCH = 32
COLUMNS = ["size", "draws", "alarms", "rate", "low", "high"]
TRIAL_CAPTIONS = {
    "false alarms": f"Windows without a change that are suspicious (p at most {LEVEL:g}), with 95 % intervals.",
    "months": f"Months of {MONTH} windows without a change in which there is an alarm.",
    "power": f"Windows with a change that are suspicious (p at most {LEVEL:g}).",
}


def make_trials(task: str, baseline: Baseline, n_draws: int, *, progress: Progress = quiet) -> dict[str, pd.DataFrame]:
    """Tables by the names in TRIAL_CAPTIONS, {} for no draws; those made before with the same baseline are read.

    Parameters
    ----------
    task : str
    baseline : Baseline
    n_draws : int
        Windows of each size; months and windows with a change are fewer in proportion.
    progress : callable

    Raises
    ------
    ParameterError
        If n_draws is below 0.
    """
    if n_draws < 0:
        raise ParameterError(f"draws must be 0 or more, not {n_draws}.")
    if not n_draws:
        return {}
    key = f"{baseline.fingerprint} {n_draws} {library_hash()}"
    if known := read_trials(task, key):
        return known
    pool = make_pool(baseline)
    n_months, n_power = (-(-n_draws * most // N_DRAWS) for most in (N_MONTHS, N_POWER))
    with one_thread():
        tables = {
            "false alarms": false_alarms(pool, n_draws, progress=progress),
            "months": monthly_alarms(pool, n_months, progress=progress),
            "power": power(pool, n_power, progress=progress),
        }
    write_trials(task, key, tables)
    return tables


def false_alarms(
    pool: Pool, n_draws: int, *, sizes: Sequence[int] = SIZES, seed: int = 0, progress: Progress = quiet
) -> pd.DataFrame:
    """How many windows that were drawn as the reference are at most LEVEL.

    Parameters
    ----------
    pool : Pool
    n_draws : int
        Of each size.
    sizes : sequence of int
        Those for which there are too few images are left out.
    seed : int
    progress : callable

    Returns
    -------
    DataFrame
        COLUMNS.
    """
    rows = []
    for size in possible(pool, sizes):
        draws = progress(range(n_draws), n_draws, f"windows of {size} without a change, windows")
        p_values = [p_of(pool, places, N_QUICK, number) for number, places in drawn(pool, size, draws, seed)]
        rows.append((size, n_draws, *_share(p_values, LEVEL)))
    return pd.DataFrame(rows, columns=COLUMNS)


def monthly_alarms(
    pool: Pool, n_months: int, *, size: int = MONTHLY_SIZE, seed: int = 1, progress: Progress = quiet
) -> pd.DataFrame:
    """How many months of MONTH windows that were drawn as the reference have an alarm; COLUMNS."""
    n_windows = n_months * MONTH
    if not possible(pool, [size]):
        return pd.DataFrame(columns=COLUMNS)
    draws = progress(range(n_windows), n_windows, f"months of {MONTH} windows without a change, windows")
    p_values = [p_of(pool, places, N_FULL, number) for number, places in drawn(pool, size, draws, seed)]
    months = np.array(p_values).reshape(n_months, MONTH).min(axis=1)
    return pd.DataFrame([(size, n_months, *_share(months, LEVEL / MONTH))], columns=COLUMNS)


def power(
    pool: Pool, n_draws: int, *, sizes: Sequence[int] = SIZES, seed: int = 2, progress: Progress = quiet
) -> pd.DataFrame:
    """How many windows with a change are at most LEVEL, of each change and size: change, then COLUMNS."""
    altered = changed_views(pool, progress=progress)
    cells = [(change, size) for change in (*altered, MIX, UNKNOWN) for size in possible(pool, sizes)]
    rows = []
    for change, size in progress(cells, len(cells), f"{n_draws} windows of each change and size, kinds"):
        if change == MIX:
            p_values = list(_p_mixed(pool, size, n_draws, seed))
        elif change == UNKNOWN:
            p_values = list(_p_new(pool, size, n_draws, seed))
        else:
            p_values = list(_p_changed(pool, altered[change], size, n_draws, seed))
        if p_values:
            rows.append((change, size, len(p_values), *_share(p_values, LEVEL)))
    return pd.DataFrame(rows, columns=["change", *COLUMNS])


def possible(pool: Pool, sizes: Sequence[int]) -> list[int]:
    """Sizes of windows beside which enough images are left to hold them against."""
    return [size for size in sizes if len(pool) >= SPARE * size]


def drawn(pool: Pool, size: int, draws: Iterator[int] | Sequence[int], seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Windows: (number, places of its images in the pool)."""
    for number in draws:
        yield number, default_rng([seed, size, number]).permutation(len(pool))[:size]


def p_of(pool: Pool, places: np.ndarray, most: int, seed: int, window: Views | None = None) -> float:
    """p-value of a window of the pool's images, or of what they have become, against images that are not in it."""
    left = np.ones(len(pool), dtype=bool)
    left[places] = False
    others = default_rng(seed).permutation(np.flatnonzero(left))
    unseen = pool.views.rows(others[: len(pool.baseline.unseen)])  # as many as a real window is held against
    own = pool.views.rows(places) if window is None else window
    points, width = pool.views.points[others[:REFERENCE]], pool.baseline.space.width
    return compare(own, points, unseen, width, seed=seed, most=most).p_value


def _p_changed(pool: Pool, changed: Views, size: int, n_draws: int, seed: int) -> Iterator[float]:
    """p-values where every image is changed; the pool's first images have been."""
    for number in range(n_draws if len(changed) >= size else 0):
        places = default_rng([seed, size, number]).permutation(len(changed))[:size]
        yield p_of(pool, places, N_QUICK, number, changed.rows(places))


def _p_mixed(pool: Pool, size: int, n_draws: int, seed: int) -> Iterator[float]:
    """p-values where a class is MORE times as frequent, each class in turn; its images come twice where they must."""
    classes = np.unique(pool.labels)
    for number in range(n_draws):
        generator = default_rng([seed, size, number])
        own = pool.labels == classes[number % len(classes)]
        n_own = round(size * MORE * own.mean() / (MORE * own.mean() + 1 - own.mean()))
        often, others = np.flatnonzero(own), generator.permutation(np.flatnonzero(~own))
        if len(others) < size - n_own:
            continue
        chosen = generator.choice(often, n_own, replace=n_own > len(often))
        yield p_of(pool, np.concatenate([chosen, others[: size - n_own]]), N_QUICK, number)


def _p_new(pool: Pool, size: int, n_draws: int, seed: int) -> Iterator[float]:
    """p-values where a share of NEW are images of a class that the reference lacks, each class in turn.

    By vectors alone, for these answers know the class; the price of testing answers too is paid.
    """
    points, classes = pool.views.points, np.unique(pool.labels)
    for number in range(n_draws):
        generator = default_rng([seed, size, number])
        new = pool.labels == classes[number % len(classes)]
        own, known = (generator.permutation(np.flatnonzero(mask)) for mask in (new, ~new))
        n_new = round(NEW * size)
        if len(own) < n_new or len(known) < SPARE * (size - n_new):
            continue
        window = np.concatenate([own[:n_new], known[: size - n_new]])
        rest = known[size - n_new :][:REFERENCE]
        width = pool.baseline.space.width
        test = compare_points(points[window], points[rest], width, seed=number, most=N_QUICK)
        yield together([test.p_value, 1.0])


def _share(p_values: Sequence[float] | np.ndarray, level: float) -> tuple[int, float, float, float]:
    """How many are at most `level`, and their share with its interval."""
    n_below = int((np.asarray(p_values) <= level).sum())
    share = proportion(n_below, len(p_values))
    return n_below, share.value, share.low, share.high


def changed_views(pool: Pool, *, progress: Progress = quiet) -> dict[str, Views]:
    """The pool's first images darkened, and blurred, as they are answered then; what cannot be read is left out."""
    encoder = pool.baseline.predictor.encoder
    pixels: dict[str, list[np.ndarray]] = {DARK: [], BLURRED: []}
    places = []
    files = pool.files[:CHANGED_IMAGES]
    for place, (path, _) in enumerate(progress(files, len(files), "darkened and blurred images")):
        try:
            image = reduced(decode(path.read_bytes(), min_side=encoder.preprocessing.decode_side))
        except (ImageError, OSError):
            continue
        places.append(place)
        for change, found in pixels.items():
            found.append(encoder.preprocessing.normalise(encoder.preprocessing.view(changed_image(image, change))))
    if not places:
        return {}
    return {change: pool.changed(places, _encoded(encoder, found)) for change, found in pixels.items()}


def _encoded(encoder: Encoder, pixels: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors of preprocessed images, (n, dim) float32."""
    starts = range(0, len(pixels), BATCH)
    return np.concatenate([encoder.encode(np.stack(pixels[start : start + BATCH])) for start in starts])


def changed_image(image: Image.Image, change: str) -> Image.Image:
    """An image darkened or blurred."""
    if change == DARK:
        return ImageEnhance.Brightness(image).enhance(DARKER)
    return image.filter(ImageFilter.GaussianBlur(BLUR))
