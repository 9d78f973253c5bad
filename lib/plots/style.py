"""One look for all figures: a colour and marker a class, one sequential map, fonts."""

from typing import Any

import matplotlib.pyplot as plt

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


def class_styles(n_classes: int) -> list[dict[str, Any]]:
    """A colour and marker a class, by its code; beyond ten classes the marker changes where colours repeat."""
    return [
        {"color": COLORS[code % len(COLORS)], "marker": MARKERS[code // len(COLORS) % len(MARKERS)]}
        for code in range(n_classes)
    ]


def use_style() -> None:
    """Set matplotlib's defaults for this process."""
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
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
    """Label without matplotlib's mathematics marks, cut where it would not fit."""
    text = " ".join(str(label).split()).replace("$", r"\$")
    return text if len(text) <= 24 else text[:22] + "…"
