import base64
import hashlib
import html
import io
import re
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import display
from lib.images import Preprocessing

EVIL = "<img src=x onerror=alert(1)>"
QUOTED = '" onload="alert(1)'
ESCAPED = html.escape(EVIL)


@pytest.fixture
def shown(monkeypatch):
    """The HTML that was displayed, one string a call."""
    found = []
    monkeypatch.setattr(display, "display", lambda item: found.append(item.data))
    return found


@pytest.fixture
def ax():
    plt.switch_backend("Agg")
    yield plt.subplots(figsize=(2, 1))[1]
    plt.close("all")


def decoded(source):
    """Images of the data URLs in some HTML."""
    urls = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)"', source)
    images = [(kind, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))) for kind, data in urls]
    assert all(image.format == kind.upper() for kind, image in images)
    return [image for _, image in images]


def test_sentences_are_joined_into_one_escaped_paragraph(shown):
    display.say("One.", f"Two: {EVIL}.")
    assert shown == [f'<p class="say">One. Two: {ESCAPED}.</p>']


def test_a_figure_has_its_caption_and_its_words_and_is_closed(shown, ax):
    ax.plot([0, 1])
    display.figure(ax, f"Caption {EVIL}", QUOTED)
    assert f"<figcaption>Caption {ESCAPED}</figcaption>" in shown[0]
    assert f'alt="{html.escape(QUOTED)}"' in shown[0]
    assert EVIL not in shown[0]
    assert QUOTED not in shown[0]
    assert len(decoded(shown[0])) == 1
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("size", "kind"), [((28, 28), "png"), ((64, 64), "png"), ((65, 20), "jpeg")])
def test_small_pictures_are_png_and_lose_nothing_larger_ones_are_jpeg(size, kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    url = display.picture(image)
    assert url.startswith(f"data:image/{kind};base64,")
    back = decoded(f'src="{url}"')[0]
    assert back.size == size
    if kind == "png":
        assert back.tobytes() == image.tobytes()


def test_pictures_have_escaped_texts_alternatives_and_caption(shown):
    display.pictures([(Image.new("RGB", (10, 8), "red"), EVIL), (None, QUOTED)], EVIL)
    assert EVIL not in shown[0]
    assert shown[0].count("<li>") == 2
    assert f'alt="{ESCAPED}"' in shown[0]
    assert f"<li><span>no picture</span><br>{html.escape(QUOTED)}</li>" in shown[0]
    assert f"<figcaption>{ESCAPED}</figcaption>" in shown[0]
    assert [image.size for image in decoded(shown[0])] == [(10, 8)]


def test_thumbnails_fit_and_broken_or_missing_files_keep_their_place(shown, save_image, tmp_path):
    save_image("large.png", size=(400, 200))
    (tmp_path / "broken.png").write_bytes(b"no image")
    display.thumbnails(tmp_path, ["large.png", "broken.png", "gone.png"], ["l", "b", "g"], "three")
    assert [image.size for image in decoded(shown[0])] == [(display.THUMBNAIL_SIDE, display.THUMBNAIL_SIDE // 2)]
    assert re.findall(r"<br>(\w)</li>", shown[0]) == ["l", "b", "g"]
    assert shown[0].count("no picture") == 2


def test_a_text_for_each_thumbnail_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        display.thumbnails(tmp_path, ["a"], [], "one")


def test_a_table_is_escaped_in_caption_header_and_cells(shown):
    display.table(pd.DataFrame({EVIL: [EVIL, QUOTED]}), EVIL)
    assert EVIL not in shown[0]
    assert QUOTED not in shown[0]
    assert f"<caption>{ESCAPED}</caption>" in shown[0]
    assert f'<th scope="col">{ESCAPED}</th>' in shown[0]
    assert f"<td>{ESCAPED}</td>" in shown[0]


def test_numbers_stand_right_with_their_digits_and_thousands(shown):
    display.table(pd.DataFrame({"f": [0.12345, np.nan], "n": [1234567, 2], "ok": [True, False]}), "t", digits=2)
    cells = re.findall(r"<td([^>]*)>([^<]*)</td>", shown[0])
    number = ' class="number"'
    assert cells == [(number, "0.12"), (number, "1,234,567"), ("", "True"), (number, ""), (number, "2"), ("", "False")]


@pytest.mark.parametrize(
    ("value", "text"), [(np.float32(0.5), "0.500"), (np.int64(1234), "1,234"), (np.float64(0.5), "0.500")]
)
def test_numbers_of_numpy_in_a_mixed_column_are_numbers(shown, value, text):
    display.table(pd.DataFrame({"mixed": ["a", value]}, dtype=object), "t")
    assert f'<td class="number">{text}</td>' in shown[0]


def test_an_empty_table_has_its_header(shown):
    display.table(pd.DataFrame({"a": [], "b": []}), "nothing")
    assert re.findall("<th[^>]*>(.)</th>", shown[0]) == ["a", "b"]
    assert "<td" not in shown[0]


def test_written_files_are_listed_with_size_and_hash(shown, tmp_path):
    path = tmp_path / "<b>.bin"
    path.write_bytes(b"x" * 1500)
    display.written(path)
    assert "&lt;b&gt;.bin" in shown[0]
    assert "<td>1.5 kB</td>" in shown[0]
    assert f"<td>{hashlib.sha256(b'x' * 1500).hexdigest()[:12]}</td>" in shown[0]
    assert "Files written" in shown[0]


def test_the_network_s_view_stands_beside_its_image_and_broken_files_are_passed_over(shown, save_image, tmp_path):
    save_image('a"b.png', size=(60, 40))
    (tmp_path / "broken.png").write_bytes(b"no image")
    preprocessing = Preprocessing(32, 28, "bilinear", (0.0,), (255.0,))
    display.network_views(tmp_path, ['a"b.png', "broken.png"], preprocessing, "views")
    assert [image.size for image in decoded(shown[0])] == [(60, 40), (28, 28)]
    assert re.findall("<br>([^<]*)</li>", shown[0]) == ["a&quot;b.png", "as the network receives it"]


def test_a_notebook_starts_with_commit_and_versions(shown, monkeypatch):
    monkeypatch.setattr(display, "commit", lambda: "abc123")
    monkeypatch.setattr(display, "versions", lambda: {"python": "3.11.9", "scikit-learn": "1.0", "other": "2"})
    with mpl.rc_context(), warnings.catch_warnings():
        display.start()
        warnings.warn_explicit("Glyph 40165 missing from font(s) DejaVu Sans.", UserWarning, "plots.py", 1)
        assert not plt.isinteractive()
    assert shown == ['<p class="say">Commit abc123; python 3.11.9, scikit-learn 1.0.</p>']
