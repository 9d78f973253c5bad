import html.parser
import re
from types import SimpleNamespace

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe

from lib import reports
from lib.reports import history
from lib.reports.page import render, without_progress
from lib.stages import STAGES
from lib.storage import PROJECT_ROOT, reports_dir, task_dir, write_json

FACTS = {
    "style": "",
    "status": "succeeded",
    "error": "",
    "navigation": [{"title": "One", "href": "1.html", "current": True}],
    "facts": [("commit", "abc <b>")],
    "parameters": [("seed", "0")],
    "versions": [("python", "3.11")],
}


class Page(html.parser.HTMLParser):
    """What a page loads and shows: (tag, attributes) in order."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def attributes(self, *tags):
        """Attributes of all elements with these names."""
        return [attributes for tag, attributes in self.tags if tag in tags]


BY_DEFAULT = [stage for stage in STAGES.values() if stage.by_default]


@pytest.fixture(params=[*(f"tiny/{stage.notebook.stem}.html" for stage in BY_DEFAULT), "index.html"])
def page_path(request, tiny_task):
    """Each page of the tiny run."""
    return reports_dir() / request.param


@pytest.fixture
def page_text(page_path):
    """Its text."""
    return page_path.read_text(encoding="utf-8")


def test_a_page_loads_nothing_from_outside(page_text):
    page = Page(page_text)
    for attributes in page.attributes("img", "link", "iframe", "source", "object", "embed", "video"):
        loaded = attributes.get("src") or attributes.get("href") or attributes.get("data") or ""
        assert loaded.startswith("data:")
    assert not any("src" in attributes for attributes in page.attributes("script"))
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:)", page_text)
    assert not re.search(r"(src|href)\s*=\s*['\"]?(https?:)?//", page_text)


def test_a_page_is_whole_and_small(page_text):
    page = Page(page_text)
    assert len(page_text.encode()) < 5_000_000
    assert page.attributes("html") == [{"lang": "en"}]
    assert len(page.attributes("main")) == len(page.attributes("title")) == len(page.attributes("h1")) == 1
    assert all(image.get("alt") for image in page.attributes("img"))
    assert "No description has been provided" not in page_text


def test_links_between_the_pages_lead_somewhere(tiny_task):
    for path in [*reports_dir().glob("tiny/*.html"), reports_dir() / "index.html"]:
        links = [a["href"] for a in Page(path.read_text()).attributes("a") if not a["href"].startswith("#")]
        assert links
        assert all((path.parent / link).exists() for link in links)


def test_a_report_tells_where_its_numbers_come_from(tiny_task):
    text = (reports_dir() / "tiny/04_evaluation.html").read_text()
    for told in (
        "efficientnet_lite0 was asked for",
        "72 images in 3 classes",
        "1 file refused",
        "Parameters",
        "scikit-learn",
    ):
        assert told in text
    assert "<details" in text
    assert str(PROJECT_ROOT) not in text


def test_the_index_names_champion_score_and_number(tiny_task):
    text = (reports_dir() / "index.html").read_text()
    assert re.search(r"is right on [\d.]+ % \([\d.]+ to [\d.]+\) of \d+ test images in 3 classes", text)
    assert text.count("succeeded") == len(BY_DEFAULT)
    assert "champion" in text


def test_an_index_without_a_run_says_how_to_make_one():
    reports.write_index()
    assert "./run_pipeline.sh" in (reports_dir() / "index.html").read_text()


def test_code_is_folded_and_text_from_data_escaped():
    cell = nbformat.v4.new_code_cell("x = '<script>alert(1)</script>'")
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="<img src=x onerror=alert(1)>")]
    text = render(nbformat.v4.new_notebook(cells=[cell], metadata={"title": "<b>"}), FACTS)
    assert "<details" in text
    page = Page(text)
    assert not page.attributes("script")
    assert not page.attributes("img")
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "abc &lt;b&gt;" in text


def test_a_progress_bar_is_shown_in_its_last_state_only():
    cell = nbformat.v4.new_code_cell("")
    text = "\rembedding:   0%\rembedding:  50%\rembedding: 100%\nother\n"
    cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text=text)]
    notebook = without_progress(nbformat.v4.new_notebook(cells=[cell]))
    assert notebook.cells[0].outputs[0].text == "embedding: 100%\nother"


def test_home_folders_stay_out_of_a_page(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere/home")
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=["in /somewhere/home/x.py"])]
    assert "/somewhere/home" not in render(nbformat.v4.new_notebook(cells=[cell]), FACTS)


def test_a_stage_that_never_began_is_published_as_failed(tmp_path):
    stage = STAGES["embedding"]
    write_json(tmp_path / "01_embedding.json", {"provenance": {"commit": "c-dirty", "device": "d", "versions": {}}})
    entry = {"status": "failed", "error": "no <kernel>", "run": "r", "seconds": 1, "parameters": {"seed": 0}}
    text = reports.publish(stage, "t", tmp_path, entry).read_text()
    assert "no &lt;kernel&gt;" in text
    assert "c with uncommitted changes" in text


def test_one_task_that_cannot_be_read_hides_no_other(tiny_task, monkeypatch, tmp_path):
    monkeypatch.setenv("REPORTS_DIR", str(tmp_path / "reports"))
    broken = task_dir(tiny_task).with_name("a copy (old)")
    broken.mkdir()
    (broken / "pipeline.json").write_text("{")
    reports.write_index()
    (broken / "pipeline.json").unlink()
    broken.rmdir()
    text = (reports_dir() / "index.html").read_text()
    assert "This task cannot be read" in text
    assert "is right on" in text


def test_a_damaged_version_is_named_in_the_index():
    folder = task_dir("t") / "models" / "v"
    folder.mkdir(parents=True)
    write_json(task_dir("t") / "pipeline.json", {"task": "t", "stages": {}})
    reports.write_index()
    assert "damaged" in (reports_dir() / "index.html").read_text()


def test_a_page_has_no_serious_fault_of_accessibility(page_path, open_page):
    found = Axe().run(open_page(page_path)).response["violations"]
    serious = [
        (fault["id"], fault["nodes"][0]["html"]) for fault in found if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_page_fits_a_phone_and_prints(page_path, open_page):
    page = open_page(page_path, width=390, height=800, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.pdf()[:5] == b"%PDF-"


CARD = {
    "data": {"hash": "h1", "n": {"train": 80, "test": 20}},
    "classes": ["cat", "dog"],
    "backbone": {"fingerprint": "lite0-1"},
    "seed": 0,
    "model": "LR (C = 1)",
    "provenance": {"commit": "abcdef1234567"},
}


def test_a_version_is_told_from_the_one_before_it():
    assert history.changes(CARD, CARD) == []
    assert history.changes(CARD | {"n_folds": 5}, CARD) == []  # an old card did not tell
    assert history.changes(CARD | {"n_folds": 5}, CARD | {"n_folds": 3}) == ["folds: 3 → 5"]
    now = CARD | {
        "data": {"hash": "h2", "n": {"train": 90, "test": 22}},
        "classes": ["cat", "lynx"],
        "seed": 3,
        "model": "MLP (64)",
        "provenance": {"commit": "0123456789abc"},
    }
    assert history.changes(now, CARD) == [
        "data or split (+12 images)",
        "class lynx is new",
        "class dog is gone",
        "seed: 0 → 3",
        "model: LR (C = 1) → MLP (64)",
        "code: abcdef1234 → 0123456789",
    ]


@pytest.fixture
def scored(tmp_path):
    """A version with predictions.csv of (content, label, answer)."""

    def make(name, *rows):
        (tmp_path / name).mkdir()
        if rows:
            text = "\n".join(["sha256,label,predicted", *(",".join(row) for row in rows)])
            (tmp_path / name / "predictions.csv").write_text(text)
        return SimpleNamespace(folder=tmp_path / name)

    return make


def test_two_versions_are_compared_on_the_images_both_were_tested_on(scored):
    before = scored("1", ("a", "cat", "dog"), ("b", "dog", "dog"), ("c", "cat", "cat"), ("only before", "cat", "cat"))
    now = scored("2", ("c", "cat", "cat"), ("b", "dog", "dog"), ("a", "cat", "cat"), ("only now", "cat", "dog"))
    # Of three images in common the newer gets one more right.
    assert history.effect(now, before).startswith("+33.3 points (")
    assert "on 3 images" in history.effect(now, before)
    assert history.effect(now, scored("3")) == ""
    assert history.effect(now, scored("4", ("z", "cat", "cat"))) == "no test image in common"
    assert history.effect(now, scored("5", ("a", "dog", "cat"))) == "no test image in common"


def test_classes_that_look_like_numbers_are_compared_as_text(scored):
    before = scored("1", ("a", "01", "01"), ("b", "02", "01"))
    now = scored("2", ("a", "01", "01"), ("b", "02", "02"), ("c", "01", "other"))
    assert history.effect(now, before).startswith("+50.0 points (")
