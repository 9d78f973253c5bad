"""What has changed in a window: the mix of classes, how images look, or that some are of nothing known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from lib.appearance import MEASURES, Appearance, appearances
from lib.drift import LEAST, LEVEL, Test, class_mix, with_mix
from lib.embeddings import embed
from lib.errors import ImageError
from lib.estimates import Estimate
from lib.images import decode
from lib.metrics import proportion
from lib.monitoring.baseline import DECISIONS, Baseline, Views
from lib.monitoring.verdicts import compare_points
from lib.monitoring.windows import Window
from lib.production import ImageStore
from lib.progress import quiet

LOOKS = [*MEASURES, "saturation", "warmth", "longer side", "kilobytes"]
N_LOOKED = 300  # images of either side whose looks are compared
SMALL = 64  # pixels of the copies that colours are read from
TOLD = 3  # classes and looks that are named in a sentence


@dataclass(frozen=True)
class Causes:
    """What tells a window from the reference.

    Parameters
    ----------
    mix : DataFrame
        A row a class: label, reference, share, low, high, n_answered; the largest change first.
    matched : Test or None
        Vectors of the window against reference images of the same mix of classes: whether more than the mix has
        changed; None where too few images are left.
    looks : DataFrame
        A row of LOOKS: look, reference, window (medians), change (share of the reference's), p_value (Mann and Whitney
        1947, times the number of looks); empty without images.
    unknown, unknown_before : Estimate
        Share of images told as unknown, in the window and in the reference.
    has_mixed : bool
        Whether the classes that are answered differ more than by chance.
    """

    mix: pd.DataFrame
    matched: Test | None
    looks: pd.DataFrame
    unknown: Estimate
    unknown_before: Estimate
    has_mixed: bool

    @property
    def sentences(self) -> list[str]:
        """What has changed, the clearest first; what cannot be told from chance is not named."""
        told = []
        looks = self.looks[(self.looks["p_value"] <= LEVEL) & (self.looks["reference"] != self.looks["window"])]
        if len(looks):
            parts = [f"{row.look} {row.reference:.3g} -> {row.window:.3g}{_percent(row.change)}"
                     for row in looks.head(TOLD).itertuples()]  # fmt: skip
            told.append(f"Images look different: {', '.join(parts)}.")
        if self.unknown.low > self.unknown_before.high:
            told.append(f"Images of something new: {self.unknown.value:.0%} are like nothing that was trained on, "
                        f"{self.unknown_before.value:.0%} of the reference.")  # fmt: skip
        moved = self.mix[(self.mix["low"] > self.mix["reference"]) | (self.mix["high"] < self.mix["reference"])]
        if len(moved) and self.has_mixed:
            parts = [f"{row.label} {row.reference:.0%} -> {row.share:.0%} ({row.low:.0%} to {row.high:.0%})"
                     for row in moved.head(TOLD).itertuples()]  # fmt: skip
            told.append(f"Another mix of classes: {', '.join(parts)}.")
        if self.matched is not None:
            more = "differ" if self.matched.p_value <= LEVEL else "do not differ"
            told.append(f"Against reference images of the same mix the images {more} (p = {self.matched.p_value:.4f}).")
        return told


def _percent(change: float) -> str:
    """A change in per cent, in brackets; "" of what was 0 before."""
    return "" if np.isnan(change) else f" ({change:+.0%})"


def find_causes(
    window: Views, baseline: Baseline, looks: pd.DataFrame, verdict: dict[str, Any], *, seed: int = 0
) -> Causes:
    """Tell a window from the reference.

    Parameters
    ----------
    window : Views
    baseline : Baseline
    looks : DataFrame
        From `compare_looks`.
    verdict : dict
        `Verdict.to_json` of the window.
    seed : int
    """
    answered = np.bincount(window.codes, minlength=len(baseline.predictor.classes))
    mix = class_mix(baseline.confusion, answered, seed=seed)
    matching = with_mix(baseline.labels, mix["share"].to_numpy(), seed=seed)
    matched = None
    if len(matching) >= LEAST:
        matched = compare_points(window.points, baseline.points[matching], baseline.space.width, seed=seed)
    mix = mix.assign(label=baseline.predictor.classes, n_answered=answered)
    order = (mix["share"] - mix["reference"]).abs().sort_values(ascending=False, kind="stable").index
    columns = ["label", "reference", "share", "low", "high", "n_answered"]
    unknown = DECISIONS.index("unknown")
    shares = [proportion(int((views.decisions == unknown).sum()), len(views)) for views in (window, baseline.unseen)]
    has_mixed = verdict["statistics"]["classes"]["p_value"] <= LEVEL
    return Causes(mix.loc[order, columns].reset_index(drop=True), matched, looks, *shares, has_mixed)


def read_looks(files: Sequence[tuple[Path, str]]) -> pd.DataFrame:
    """LOOKS of image files with their SHA-256, a row each; those that cannot be read are left out."""
    good, colours = [], []
    for path, sha256 in files:
        try:
            colours.append(_colours(path.read_bytes()))
            good.append((str(path), sha256))
        except (ImageError, OSError):
            continue
    if not good:
        return pd.DataFrame(columns=LOOKS, dtype=float)
    vectors = embed(Path("/"), *zip(*good, strict=True), Appearance(), progress=quiet).vectors
    grey = appearances(vectors).measures.reset_index(drop=True)
    return pd.concat([grey, pd.DataFrame(colours, columns=LOOKS[len(MEASURES) :])], axis=1)


def _colours(data: bytes) -> tuple[float, float, float, float]:
    """Mean saturation (0 to 1), mean red less blue (-1 to 1), pixels of the longer side, kilobytes of the file."""
    image = decode(data, min_side=SMALL)
    longer = max(image.size)
    image.thumbnail((SMALL, SMALL))
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    high, low = pixels.max(axis=2), pixels.min(axis=2)
    saturation = float(((high - low) / np.maximum(high, 1 / 255)).mean())
    return saturation, float((pixels[:, :, 0] - pixels[:, :, 2]).mean()), float(longer), len(data) / 1000


def window_looks(task: str, baseline: Baseline, window: Window) -> pd.DataFrame:
    """`compare_looks` of the reference and a window, of at most N_LOOKED kept images each."""
    store, rows = ImageStore.of(task), window.sample[window.sample["kept"].astype(bool)].head(N_LOOKED)
    order = np.random.default_rng(0).permutation(len(baseline.files))[:N_LOOKED]
    reference = read_looks([baseline.files[place] for place in order])
    return compare_looks(reference, read_looks([(store.path(sha256), sha256) for sha256 in rows["sha256"]]))


def compare_looks(reference: pd.DataFrame, window: pd.DataFrame) -> pd.DataFrame:
    """Looks of two sets of images; see `Causes.looks`, the clearest change first."""
    rows = []
    for look in LOOKS if len(reference) and len(window) else []:
        before, now = reference[look].to_numpy(dtype=float), window[look].to_numpy(dtype=float)
        p_value = float(mannwhitneyu(before, now).pvalue) if len({*before, *now}) > 1 else 1.0
        middle, other = float(np.median(before)), float(np.median(now))
        change = (other - middle) / abs(middle) if middle else np.nan
        rows.append((look, middle, other, change, min(1.0, p_value * len(LOOKS))))
    table = pd.DataFrame(rows, columns=["look", "reference", "window", "change", "p_value"])
    return table.sort_values("p_value", kind="stable", ignore_index=True)
