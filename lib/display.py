"""What notebook cells show: sentences, figures, pictures and tables, the same in JupyterLab and in the report.

All text is escaped: labels and file names come from the data.
"""

import html
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from PIL import Image

from lib.errors import ImageError
from lib.images import Preprocessing, data_url, decode, thumbnail
from lib.plots import use_style
from lib.provenance import commit, versions
from lib.storage import display_path, sha256_file

THUMBNAIL_SIDE = 112


def start() -> None:
    """Set up a notebook: plot style, no warnings about odd metadata or glyphs, and a line on code and versions."""
    use_style()
    plt.ioff()
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # boxes in figures; tables have the label
    found = versions()
    shown = ", ".join(f"{name} {found[name]}" for name in ("python", "scikit-learn", "onnxruntime") if name in found)
    say(f"Commit {commit()}; {shown}.")


def say(*sentences: str) -> None:
    """Show computed sentences as a paragraph."""
    display(HTML(f'<p class="say">{html.escape(" ".join(sentences))}</p>'))


def figure(ax: plt.Axes, caption: str, alt: str) -> None:
    """Show a drawing with its caption; `alt` tells in words what it shows to those who do not see it."""
    display(
        HTML(f'<figure class="plot">{figure_image(ax, alt)}<figcaption>{html.escape(caption)}</figcaption></figure>')
    )


def figure_image(ax: plt.Axes, alt: str) -> str:
    """A drawing as an <img> that holds its pixels; the figure is closed."""
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="png")
    plt.close(ax.figure)
    return f'<img src="{data_url(buffer.getvalue(), "png")}" alt="{html.escape(alt)}">'


def picture(image: Image.Image) -> str:
    """A picture as a data URL: PNG for the smallest, JPEG else."""
    buffer = io.BytesIO()
    kind = "png" if max(image.size) <= 64 else "jpeg"
    image.save(buffer, kind, **({"quality": 80} if kind == "jpeg" else {}))
    return data_url(buffer.getvalue(), kind)


def pictures(items: Sequence[tuple[Image.Image | None, str]], caption: str) -> None:
    """Show pictures in a row that wraps, a line of text below each; None stands for what cannot be shown."""
    _show_pictures([f"<li>{_picture_html(image, text)}</li>" for image, text in items], caption)


def _picture_html(image: Image.Image | None, text: str) -> str:
    """A picture with a line of text below."""
    shown = "<span>no picture</span>"
    if image is not None:
        shown = f'<img src="{picture(image)}" alt="{html.escape(text)}" width="{THUMBNAIL_SIDE}">'
    return f"{shown}<br>{html.escape(text)}"


def thumbnails(root: Path, paths: Sequence[str], texts: Sequence[str], caption: str) -> None:
    """Show image files in a row that wraps, a line of text below each."""
    items = [(_thumbnail(root / path), text) for path, text in zip(paths, texts, strict=True)]
    pictures(items, caption)


def pairs(root: Path, table: pd.DataFrame, caption: str) -> None:
    """Show pairs of image files beside each other; columns path, label, split and the same with other_ before."""
    rows = []
    for row in table.itertuples():
        sides = ((row.path, row.label, row.split), (row.other_path, row.other_label, row.other_split))
        rows.append([(_thumbnail(root / path), f"{label}, {split}\n{path}") for path, label, split in sides])
    picture_rows(rows, caption)


def picture_rows(rows: Sequence[Sequence[tuple[Image.Image | None, str]]], caption: str) -> None:
    """Show pictures that belong together beside each other, a line of text below each."""
    items = []
    for row in rows:
        shown = "".join(f"<div>{_picture_html(image, text)}</div>" for image, text in row)
        items.append(f'<li class="together">{shown}</li>')
    _show_pictures(items, caption)


def _show_pictures(items: Sequence[str], caption: str) -> None:
    """Show list items in a row that wraps."""
    title = html.escape(caption)
    display(HTML(f'<figure class="pictures"><ul>{"".join(items)}</ul><figcaption>{title}</figcaption></figure>'))


def _thumbnail(path: Path) -> Image.Image | None:
    """A small picture of an image file; None where it cannot be decoded."""
    try:
        return thumbnail(path.read_bytes(), THUMBNAIL_SIDE)
    except (ImageError, OSError):
        return None


def table(rows: pd.DataFrame, caption: str, *, digits: int = 3) -> None:
    """Show a table with its caption; numbers with a fraction get `digits` places."""
    display(HTML(table_html(rows, caption, digits=digits)))


def table_html(rows: pd.DataFrame, caption: str, *, digits: int = 3) -> str:
    """A table as HTML; a wide one scrolls by itself, by keys too."""
    header = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in rows.columns)
    body = "".join(
        "<tr>" + "".join(f"<td{_align(value)}>{_cell(value, digits)}</td>" for value in map(_native, row)) + "</tr>"
        for row in rows.itertuples(index=False, name=None)
    )
    title = html.escape(caption)
    return (
        f'<div class="table" tabindex="0" role="group" aria-label="{title}"><table><caption>{title}</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _native(value: object) -> object:
    """Python's own value of a NumPy scalar, which columns of mixed types hold; others as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _align(value: object) -> str:
    """Attribute that puts numbers to the right."""
    return ' class="number"' if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _cell(value: object, digits: int) -> str:
    """A value as escaped text."""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.{digits}f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return html.escape(str(value))


def written(*paths: Path) -> None:
    """Show what a notebook wrote: each file with its size and the start of its SHA-256."""
    rows = [(display_path(path), f"{path.stat().st_size / 1000:,.1f} kB", sha256_file(path)[:12]) for path in paths]
    table(pd.DataFrame(rows, columns=["file", "size", "SHA-256"]), "Files written")


def network_views(root: Path, paths: Sequence[str], preprocessing: Preprocessing, caption: str) -> None:
    """Show image files beside what the network receives of them."""
    items: list[tuple[Image.Image | None, str]] = []
    for path in paths:
        try:
            image = decode((root / path).read_bytes(), min_side=preprocessing.decode_side)
        except (ImageError, OSError):
            continue
        view = preprocessing.view(image)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        view.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        items += [(image, path), (view, "as the network receives it")]
    pictures(items, caption)
