"""One look for all figures: a colour and marker a class, one sequential map, fonts."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.font_manager import get_font_names

# Paul Tol's "muted" scheme and black: ten colours told apart with any colour vision (SRON/EPS/TN/09-002).
COLORS = (
    "#332288",
    "#CC6677",
    "#117733",
    "#88CCEE",
    "#882255",
    "#DDCC77",
    "#44AA99",
    "#AA4499",
    "#999933",
    "#222222",
)
MARKERS = "osD^vPX*<>"
SPLIT_COLORS = {"train": "#332288", "val": "#44AA99", "test": "#CC6677"}
SEQUENTIAL = "viridis"
ACCENT, MUTED = "#332288", "#8a8a8a"
# Fonts asked, in this order where they are installed, for letters that matplotlib's own has not.
WIDER_FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "WenQuanYi Zen Hei", "Droid Sans Fallback")
LARGEST_SIDE = 24.0  # inches; matrices of many classes would take gigabytes of pixels


def class_styles(n_classes: int) -> list[dict[str, Any]]:
    """A colour and marker a class, by its code; beyond ten classes the marker changes where colours repeat."""
    return [
        {"color": COLORS[code % len(COLORS)], "marker": MARKERS[code // len(COLORS) % len(MARKERS)]}
        for code in range(n_classes)
    ]


def share_color(share: float) -> tuple[str, str]:
    """Ground and ink of a cell by its share from 0 to 1: the darker ground, the larger share; both as #rrggbb."""
    ground = plt.get_cmap(SEQUENTIAL)(0.95 - 0.95 * share)
    light = sum(weight * part for weight, part in zip((0.299, 0.587, 0.114), ground, strict=False)) > 0.52
    return to_hex(ground), "#000000" if light else "#ffffff"


def use_style() -> None:
    """Set matplotlib's defaults for this process."""
    installed = set(get_font_names())
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.family": ["DejaVu Sans", *(name for name in WIDER_FONTS if name in installed)],
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "axes.axisbelow": True,
            "axes.titleweight": "bold",
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "legend.frameon": False,
        }
    )


def new_axes(ax: plt.Axes | None, width: float = 7.0, height: float = 4.0) -> plt.Axes:
    """`ax`, or the axes of a new figure of this size in inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height))[1]


def plain(label: object) -> str:
    """Label without what matplotlib gives a meaning (mathematics, a leading underscore), cut where it would not fit."""
    text = " ".join(str(label).split())
    text = text if len(text) <= 24 else text[:22] + "…"
    hidden = "\u200b" if text.startswith("_") else ""  # legends leave out what starts with an underscore
    return hidden + text.replace("$", r"\$")


def matrix_size(n_classes: int, cell: float) -> tuple[float, float]:
    """Side in inches of a square figure with `cell` inches a class, and the font size, in points, that fits."""
    side = min(LARGEST_SIDE, max(3.5, cell * n_classes + 2))
    return side, min(10.0, 60 * (side - 2) / n_classes)
