import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import interactive
from lib.interactive import page as page_module
from lib.interactive.confusion import CELL_IMAGES, LARGEST, LISTED
from lib.plots import plot_map

EVIL = "</script><img src=x onerror=alert(1)>"
PAGE = (
    "<!DOCTYPE html><html lang='en'><meta name='viewport' content='width=device-width'><title>t</title>"
    "<body class='page'>{}</body></html>"
)


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """A file with what was displayed; call it after showing."""
    found = []
    monkeypatch.setattr(page_module, "display", lambda item: found.append(item.data))

    def write():
        path = tmp_path / "page.html"
        path.write_text(PAGE.format("".join(found)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def photos(tmp_path):
    """n files of smooth noise, as hard to compress as photos; returns root and paths."""

    def make(n, size=60):
        (tmp_path / "photos").mkdir(exist_ok=True)
        draw = np.random.default_rng(0)
        paths = [f"photos/{number}.jpg" for number in range(n)]
        for path in paths:
            small = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(small).resize((size, size)).save(tmp_path / path)
        return tmp_path, paths

    return make


def map_of(root, paths, classes, labels, p_given=None):
    """Show a map whose points lie on a circle."""
    plt.switch_backend("Agg")
    turn = np.linspace(0, 2 * np.pi, len(paths), endpoint=False)
    points = np.column_stack([np.cos(turn), np.sin(turn)])
    codes = np.array([classes.index(label) for label in labels])
    rows = pd.DataFrame({"path": paths, "label": labels, "split": "train", "predicted": classes[0]})
    rows["p_given"] = p_given if p_given is not None else np.linspace(0.001, 1, len(paths))
    ax = plot_map(points, codes, classes, "title")
    interactive.show_map(ax, points, rows, classes, root, "A caption.", "A map.")


def test_the_pointer_opens_the_image_under_it_and_leaving_closes_it(shown, photos, open_page):
    root, paths = photos(8)
    map_of(root, paths, ["cat", "dog"], ["cat", "dog"] * 4)
    page = open_page(shown())
    box = page.locator(".ground > canvas").bounding_box()
    # The first point lies at the right end of the circle, half way down.
    side = min(box["width"], box["height"]) - 24
    page.mouse.move(box["x"] + box["width"] / 2 + side / 2 - 3, box["y"] + box["height"] / 2)
    card = page.locator(".card")
    assert "cat" in card.inner_text()
    assert "answered right; label 0.1 % probable; train" in card.inner_text()
    assert "photos/0.jpg" in card.inner_text()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert not card.is_visible()


def test_a_finger_opens_an_image_too(shown, photos, open_page):
    root, paths = photos(8)
    map_of(root, paths, ["cat", "dog"], ["cat", "dog"] * 4)
    page = open_page(shown(), width=390, height=800, has_touch=True, is_mobile=True)
    box = page.locator(".ground > canvas").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 14)
    assert "photos/2.jpg" in page.locator(".card").inner_text()  # a quarter of the way round: the top
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_keys_go_from_the_most_doubtful_label_on(shown, photos, open_page):
    root, paths = photos(3)
    map_of(root, paths, ["cat", "dog"], ["dog", "cat", "dog"], [0.5, 0.9, 0.02])
    page = open_page(shown())
    page.locator(".ground > canvas").focus()
    seen = []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        seen.append(page.locator(".card").inner_text().splitlines()[-1])
    assert seen == ["photos/2.jpg", "photos/0.jpg", "photos/1.jpg", "photos/2.jpg"]
    page.keyboard.press("Escape")
    assert not page.locator(".card").is_visible()


@pytest.mark.parametrize(
    ("colour", "legend"),
    [
        ("class", ["cat", "dog"]),
        ("split", ["train"]),
        ("right", ["answered right without having seen it", "answered wrong"]),
        ("doubt", ["label 100 % probable", "label 50 % probable", "label 10 % probable", "label 0 % probable"]),
    ],
)
def test_the_legend_says_what_the_colours_mean_and_the_points_have_them(shown, photos, open_page, colour, legend):
    root, paths = photos(4)
    map_of(root, paths, ["cat", "dog"], ["cat", "dog"] * 2)
    page = open_page(shown())
    before = page.evaluate("document.querySelector('canvas').toDataURL()")
    page.locator("select").first.select_option(colour)
    assert page.locator(".legend li").all_inner_texts() == [f"●{text}" for text in legend]
    after = page.evaluate("document.querySelector('canvas').toDataURL()")
    assert (before == after) == (colour == "class")


def test_the_wheel_makes_the_map_larger_and_the_button_whole_again(shown, photos, open_page):
    root, paths = photos(4)
    map_of(root, paths, ["cat", "dog"], ["cat", "dog"] * 2)
    page = open_page(shown())
    picture = "document.querySelector('canvas').toDataURL()"
    whole = page.evaluate(picture)
    page.locator(".ground > canvas").hover()
    page.mouse.wheel(0, -200)
    page.wait_for_function(f"before => {picture} !== before", arg=whole)
    page.locator("button").click()
    page.mouse.move(1, 1)
    assert page.evaluate(picture) == whole


def test_text_of_the_data_is_text(shown, photos, open_page):
    root, paths = photos(2)
    map_of(root, paths, [EVIL, "dog"], [EVIL, "dog"])
    page = open_page(shown())
    page.locator(".ground > canvas").focus()
    page.keyboard.press("ArrowRight")
    assert EVIL in page.locator(".card").inner_text()
    assert page.locator("img[src=x]").count() == 0


def test_without_a_script_and_on_paper_there_are_picture_and_table(shown, photos, open_page):
    root, paths = photos(3)
    map_of(root, paths, ["cat", "dog"], ["dog", "cat", "dog"])
    page = open_page(shown(), java_script_enabled=False)
    assert page.locator(".still img").is_visible()
    assert not page.locator(".live").is_visible()
    page.locator("summary").click()
    assert page.locator("tbody tr").count() == 3
    page = open_page(shown())
    assert not page.locator(".still").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".still img").is_visible()
    assert not page.locator(".live").is_visible()


def test_two_thousand_photos_stay_below_three_megabytes(shown, photos):
    root, paths = photos(2000, size=44)
    map_of(root, paths, ["cat", "dog"], ["cat", "dog"] * 1000)
    assert shown().stat().st_size < 3_000_000


def confusions(n_classes, pairs):
    """Images table of (label code, predicted code), probabilities falling."""
    names = [f"class {code:02}" for code in range(n_classes)]
    rows = [(f"photos/{i}.jpg", names[a], names[b], 1 - i / 1000) for i, (a, b) in enumerate(pairs)]
    return pd.DataFrame(rows, columns=["path", "label", "predicted", "probability"]), names


def test_a_number_opens_its_images_the_most_confident_first(shown, photos, open_page):
    pairs = [(0, 0)] * 3 + [(0, 1)] * 2 + [(1, 1)] * (CELL_IMAGES + 4)
    root, _ = photos(len(pairs))
    images, names = confusions(3, pairs)
    interactive.show_confusion(images, names, root, "Confusions.")
    page = open_page(shown())
    assert page.locator("tbody button").all_inner_texts() == ["3", "2", str(CELL_IMAGES + 4)]
    assert page.locator("tbody .total").all_inner_texts() == ["5", str(CELL_IMAGES + 4), "0"]
    page.get_by_role("button", name="2 of class 00, answered class 01: show the images").click()
    opened = page.locator("[popover]:popover-open")
    assert "class 00, answered class 01" in opened.inner_text()
    assert opened.locator("li").all_inner_texts() == ["1.00 photos/3.jpg", "1.00 photos/4.jpg"]
    page.keyboard.press("Escape")
    assert opened.count() == 0
    page.get_by_role("button", name=f"{CELL_IMAGES + 4} of class 01").click()
    assert f"answered right ({CELL_IMAGES} of {CELL_IMAGES + 4} images)" in opened.inner_text()
    assert opened.locator("li").count() == CELL_IMAGES


def test_many_classes_become_a_list_of_the_most_frequent_confusions(shown, photos, open_page):
    n = LARGEST + 1
    pairs = [(0, 1)] * 3 + [(2, 2)] * 5 + [(a, b) for a in range(3, n) for b in (0, 1)]
    root, _ = photos(len(pairs))
    images, names = confusions(n, pairs)
    interactive.show_confusion(images, names, root, "Confusions.")
    page = open_page(shown())
    rows = page.locator("tbody tr").all_inner_texts()
    assert rows[0].split("\t") == ["class 00", "class 01", "3"]
    assert len(rows) == min(LISTED, 1 + 2 * (n - 3))


def test_many_classes_without_a_confusion_have_an_empty_list(shown, photos, open_page):
    n = LARGEST + 5
    root, _ = photos(n)
    images, names = confusions(n, [(code, code) for code in range(n)])
    interactive.show_confusion(images, names, root, "Confusions.")
    page = open_page(shown())
    assert page.locator("tbody tr").count() == 0
    assert page.locator(".touch-confusion > img").is_visible()


def test_classes_past_the_tenth_have_shapes_of_their_own(shown, photos, open_page):
    root, paths = photos(60)
    names = [f"class {code:02}" for code in range(60)]
    map_of(root, paths, names, names)
    page = open_page(shown())
    marks = page.locator(".legend span").all_inner_texts()
    assert [marks[code] for code in (0, 10, 20, 30, 40, 50)] == ["●", "■", "◆", "▲", "▼", "✚"]
    page.locator("select").nth(1).select_option("59")
    page.locator(".ground > canvas").focus()
    page.keyboard.press("ArrowRight")
    assert "class 59" in page.locator(".card").inner_text()


def test_an_image_that_cannot_be_read_is_grey_and_stops_nothing(shown, photos, open_page):
    root, paths = photos(2)
    (root / paths[0]).write_bytes(b"broken")
    images, names = confusions(2, [(0, 0), (1, 1)])
    interactive.show_confusion(images, names, root, "Confusions.")
    assert open_page(shown()).locator("tbody button").count() == 2
