"""The page for people: as forms, and in a real Chromium with and without its script."""

import io
import json
import re
import shutil
from time import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from lib import registry
from lib.production import ProductionLogs
from lib.storage import task_dir, write_json
from lib.web import docs, openapi
from lib.web.reports import told_age
from serve import create_app

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def bag(tiny_folder):
    """Path of an image of a bag."""
    return next((tiny_folder / "Bag").glob("*.png"))


@pytest.fixture
def client(tiny_task):
    """A client of a service that keeps a log."""
    logs = ProductionLogs()
    yield create_app(tiny_task, logs=logs).test_client()
    logs.close()


def sent(*files, **fields):
    """A form with these (bytes, name) in the field image."""
    return {"image": [(io.BytesIO(data), name) for data, name in files], **fields}


def test_a_form_without_a_script_gets_the_answer_why_and_a_correction(client, bag):
    page = client.post("/", data=sent((bag.read_bytes(), "bag.png"), explain="1")).text
    assert "<h2>Bag</h2>" in page
    assert "Why Bag?" in page
    assert page.count("A training image of") == 5
    prediction = re.search(r'name="id" value="([0-9a-f]{32})"', page)[1]
    noted = client.post("/correction", data={"id": prediction, "label": "Clutch"})
    assert "Noted: Clutch, a class that is new to this model" in noted.text
    again = client.post("/correction?fragment=1", data={"id": prediction, "label": "Bag"}).text
    assert again.startswith("<p")
    assert "new" not in again


def test_each_of_many_images_has_its_answer_or_its_own_problem(client, bag):
    page = client.post("/", data=sent((bag.read_bytes(), "bag.png"), (b"text", "notes.txt"))).text
    assert page.count("<article") == 2
    assert "The image was refused" in page


def test_a_fragment_has_the_answers_only(client, bag):
    part = client.post("/?fragment=1&log=false", data=sent((bag.read_bytes(), "bag.png"))).text
    assert "<html" not in part
    assert part.count("<article") == 1
    assert "Corrections are not taken" in part


@pytest.mark.parametrize(
    ("path", "data", "status", "said"),
    [
        ("/", {}, 400, "No image came"),
        ("/", sent((b"text", "notes.txt")), 415, "The image was refused"),
        ("/?task=other", sent((b"text", "notes.txt")), 404, "no task"),
        ("/correction", {"id": "0" * 32, "label": "Bag"}, 404, "no prediction"),
        ("/correction", {"id": "0" * 32}, 400, "`label` must be"),
    ],
)
def test_a_problem_is_told_on_a_page_with_its_status(client, path, data, status, said):
    whole = client.post(path, data=data, content_type="multipart/form-data")
    assert (whole.status_code, whole.mimetype) == (status, "text/html")
    assert said in whole.text
    assert "Back to the page" in whole.text
    assert "style-src 'self'" in whole.headers["Content-Security-Policy"]


def test_a_page_that_is_opened_the_wrong_way_is_told_so_on_a_page(client):
    response = client.get("/correction")
    assert response.status_code == 405
    assert "style-src 'self'" in response.headers["Content-Security-Policy"]
    assert "Back to the page" in response.text


def test_a_problem_as_a_fragment_is_a_sentence(client):
    part = client.post("/?fragment=1")
    assert part.status_code == 400
    assert part.text.startswith('<p class="bad" role="alert">No image came')


def test_names_that_would_be_html_stay_text(client, bag, tiny_task):
    page = client.post("/", data=sent((bag.read_bytes(), EVIL))).text
    assert EVIL not in page
    assert "&lt;img src=x" in page
    prediction = re.search(r'name="id" value="([0-9a-f]{32})"', page)[1]
    assert EVIL not in client.post("/correction", data={"id": prediction, "label": EVIL}).text
    assert EVIL not in client.get(f"/?task={EVIL}").text


@pytest.mark.parametrize("path", ["/", "/card", "/docs", "/static/page.js", "/static/style.css"])
def test_pages_load_their_own_parts_only(client, path):
    response = client.get(path, buffered=True)
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    inline_or_outside = r"<script(?! src=)|<style| style=| on\w+=\"|https?://(?!localhost)"
    assert not re.search(inline_or_outside, response.text)


def test_the_card_tells_how_good_the_model_is_and_which_classes_are_hard(client, tiny_task):
    page = client.get("/card").text
    version = registry.champion(tiny_task)
    assert version.name in page
    assert f"{100 * version.metrics['test']['classes']['Bag']['recall']:.0f} % (" in page


def test_without_a_model_the_page_says_what_to_do():
    response = create_app().test_client().get("/")
    assert response.status_code == 503
    assert "run_pipeline" in response.text


def test_a_page_that_needs_a_token_tells_nothing_of_the_models(tiny_task, monkeypatch):
    monkeypatch.setenv("PREDICT_TOKEN", "for-those-who-may-ask")
    response = create_app().test_client().get("/")
    assert response.status_code == 401
    assert tiny_task not in response.text


def test_several_tasks_are_one_click_apart(tiny_task, tmp_path, monkeypatch):
    artifacts = tmp_path / "two"
    shutil.copytree(task_dir(tiny_task).parent / "backbones", artifacts / "backbones")
    for name in (tiny_task, "other"):
        shutil.copytree(task_dir(tiny_task), artifacts / name)
    monkeypatch.setenv("ARTIFACTS_DIR", str(artifacts))
    client = create_app().test_client()
    page = client.get("/").text
    assert 'href="/?task=tiny"' in page
    assert 'action="/?task=other"' in page
    assert 'href="/card?task=tiny"' in client.get("/card?task=other").text


def test_a_version_that_was_never_evaluated_has_a_page_too(tiny_task, tmp_path, monkeypatch, bag):
    artifacts = tmp_path / "old"
    shutil.copytree(task_dir(tiny_task).parent / "backbones", artifacts / "backbones")
    shutil.copytree(task_dir(tiny_task), artifacts / tiny_task)
    monkeypatch.setenv("ARTIFACTS_DIR", str(artifacts))
    folder = registry.champion(tiny_task).folder
    (folder / "reference.parquet").unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    write_json(folder / "metrics.json", {"selection": metrics["selection"]})
    files = [name for name in registry.read_checksums(folder) if (folder / name).exists()]
    registry.store._write_checksums(folder, files)
    client = create_app().test_client()
    page = client.post("/", data=sent((bag.read_bytes(), "bag.png"), explain="1")).text
    assert "never measured" in page
    assert "Why Bag?" in page
    assert "never evaluated" in client.get("/card").text


def test_reports_are_shown_in_a_sandbox_and_nothing_else_of_the_disk(client, tiny_task):
    index = client.get("/reports/", buffered=True)
    assert index.status_code == 200
    assert "sandbox" in index.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in index.headers["Content-Security-Policy"]
    report = client.get(f"/reports/{tiny_task}/04_evaluation.html", buffered=True)
    assert report.status_code == 200
    assert "ago</time>" in report.text
    for path in ("/reports/../serve.py", "/reports/%2e%2e/serve.py", "/reports//etc/passwd", "/reports/x.html",
                 "/reports/..%2f..%2findex.html", "/reports/%00.html", f"/reports/{'a' * 300}.html"):  # fmt: skip
        assert client.get(path, follow_redirects=True).status_code == 404, path


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds ago"), (1, "1 second ago"), (90, "1 minute ago"), (7300, "2 hours ago"), (3 * 86400, "3 days ago")],
)
def test_a_report_says_how_old_it_is(seconds, said):
    assert f"UTC, {said}<" in told_age(time() - seconds)


def test_every_route_is_on_the_page_for_programs(client):
    page = client.get("/docs").text
    for path in openapi.document(1)["paths"]:
        assert f" {path}</code>" in page
    assert "http://localhost/predict" in page
    assert docs.parameter_told({"schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5}}) == (
        "integer from 1 to 9, default 5"
    )


# In the browser


def violations(page):
    """What axe holds against a page that is serious or critical."""
    found = Axe().run(page).response["violations"]
    grave = [item for item in found if item["impact"] in ("serious", "critical")]
    return [(item["id"], [node["target"] for node in item["nodes"]]) for item in grave]


def test_chosen_images_are_answered_explained_and_corrected(server, open_page, bag, tiny_folder):
    page = open_page(server)
    page.set_input_files("#files", [bag, *sorted((tiny_folder / "Trouser").glob("*.png"))[:2]])
    page.locator("article h2").nth(2).wait_for()
    answer = page.locator("article").first
    assert answer.locator("h2").inner_text() == "Bag"
    assert page.locator("#progress").inner_text() == "Looked at: 3."
    answer.get_by_role("button", name="Why?").click()
    answer.locator(".heat img").wait_for()
    assert answer.locator(".neighbors li").count() == 5
    answer.get_by_role("button", name="Right: it is Bag").click()
    assert answer.locator(".told").inner_text() == "Noted: Bag. Thank you."
    answer.get_by_label("Something else").fill("Clutch")
    answer.get_by_role("button", name="Say so").click()
    answer.get_by_text("new to this model").wait_for()
    assert violations(page) == []


def test_a_file_that_is_no_image_has_its_own_problem(server, open_page, bag, tmp_path):
    page = open_page(server, expected="Failed to load resource")
    path = tmp_path / f"{EVIL}.png"
    path.write_text("text")
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.set_input_files("#files", [path, bag])
    page.locator("article h2").wait_for()
    page.get_by_role("alert").wait_for()
    assert "refused" in page.get_by_role("alert").inner_text()


SEND = """([kind, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "sent.png", { type: "image/png" }));
  const name = kind === "paste" ? "clipboardData" : "dataTransfer";
  const type = kind === "paste" ? ClipboardEvent : DragEvent;
  document.body.dispatchEvent(new type(kind, { bubbles: true, cancelable: true, [name]: transfer }));
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_may_be_dropped_or_pasted(server, open_page, bag, kind):
    page = open_page(server)
    page.evaluate(SEND, [kind, list(bag.read_bytes())])
    assert page.locator("article h2").inner_text() == "Bag"
    assert page.locator("article figcaption").first.inner_text() == "sent.png"


def test_a_photo_may_be_taken(server, open_page):
    page = open_page(server, permissions=["camera"])
    page.get_by_role("button", name="Take a photo").click()
    video = page.locator("video")
    video.wait_for()
    page.wait_for_timeout(500)
    assert video.evaluate("video => video.videoWidth") > 0
    page.get_by_role("button", name="Take it").click()
    page.locator("article h2").wait_for()
    assert page.locator("article figcaption").first.inner_text() == "photo.jpg"
    assert not video.is_visible()


def tab_to(page, locator):
    """Press the tabulator until an element has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if locator.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"{locator} cannot be reached by the tabulator")


def test_everything_can_be_done_by_keyboard(server, open_page, bag):
    page = open_page(server)
    chooser = page.locator("#files")
    chooser.evaluate("input => input.addEventListener('click', () => input.setAttribute('data-opened', 'yes'))")
    tab_to(page, chooser)
    page.keyboard.press("Space")
    expect(chooser).to_have_attribute("data-opened", "yes")
    chooser.set_input_files(bag)
    page.locator("article h2").wait_for()
    right = page.get_by_role("button", name="Right: it is Bag")
    tab_to(page, right)
    page.keyboard.press("Enter")
    page.locator(".told .good").wait_for()
    expect(right).to_be_focused()
    tab_to(page, page.get_by_role("button", name="Why?"))
    page.keyboard.press("Enter")
    page.locator(".heat img").wait_for()
    expect(page.locator(".why")).to_be_focused()


def test_without_a_script_one_upload_works(server, open_page, bag):
    page = open_page(server, java_script_enabled=False)
    assert not page.get_by_text("paste one").is_visible()
    page.set_input_files("#files", bag)
    page.get_by_label("and show why").check()
    page.get_by_role("button", name="Look at them").click()
    assert page.locator("article h2").inner_text() == "Bag"
    assert page.locator(".heat img").is_visible()
    page.get_by_role("button", name="Right: it is Bag").click()
    assert "Noted: Bag" in page.locator("main").inner_text()


def test_it_fits_a_phone(server, open_page, bag):
    page = open_page(server, width=390, height=800, is_mobile=True, has_touch=True)
    page.set_input_files("#files", bag)
    page.locator("article h2").wait_for()
    page.get_by_role("button", name="Why?").tap()
    page.locator(".heat img").wait_for()
    for path in ("", "/card", "/docs"):
        if path:
            page.goto(f"{server}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert violations(page) == []


def test_a_busy_service_is_asked_again(tiny_run, server, open_page, bag):
    page = open_page(server, expected="Failed to load resource")
    refusals = iter(range(2))

    def refuse_twice(route):
        if next(refusals, None) is None:
            return route.continue_()
        return route.fulfill(status=503, headers={"Retry-After": "1"}, body="busy")

    page.route("**/?task=*", refuse_twice)
    page.set_input_files("#files", bag)
    page.locator("article h2").wait_for()


def test_a_service_that_has_ended_is_told_and_asked_again_by_a_click(server, open_page, bag):
    page = open_page(server, expected="Failed to load resource")
    page.route("**/?task=*", lambda route: route.abort())
    page.set_input_files("#files", bag)
    page.get_by_text("The service does not answer").wait_for()
    page.unroute("**/?task=*")
    page.get_by_role("button", name="Try again").click()
    page.locator("article h2").wait_for()


def test_a_file_that_is_too_large_is_not_sent(server, open_page, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(25_000_001))
    page = open_page(server)
    page.route("**/?task=*", lambda route: pytest.fail("it was sent"))
    page.set_input_files("#files", tmp_path / "large.png")
    page.get_by_text("This file has more than 25 MB").wait_for()


def test_a_page_that_came_without_the_script_has_no_button_that_needs_its_file(server, open_page, bag):
    page = open_page(server, java_script_enabled=False)
    page.set_input_files("#files", bag)
    page.get_by_role("button", name="Look at them").click()
    page.locator("article h2").wait_for()
    assert page.locator(".explain").count() == 0


def test_a_large_photo_is_shown_upright(server, open_page, tmp_path):
    image, exif = Image.new("RGB", (400, 200), "red"), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    page = open_page(server)
    page.set_input_files("#files", tmp_path / "turned.jpg")
    page.locator("article h2").wait_for()
    size = page.locator("article img").first.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert size == [160, 320]
