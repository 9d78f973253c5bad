"""The service through its test client, and as a real process over real connections."""

import base64
import gzip
import io
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time

import pandas as pd
import processes
import pytest
from PIL import Image

from lib import registry
from lib.errors import LogError, ParameterError
from lib.production import ProductionLogs
from lib.production.reading import read_failures
from lib.storage import PROJECT_ROOT, production_dir, sha256_bytes, task_dir, write_json
from lib.web import browser
from serve import MAX_BODY, create_app

PROBLEM = "application/problem+json"


@pytest.fixture
def client(tiny_task):
    return create_app(tiny_task).test_client()


@pytest.fixture
def photo(tiny_folder):
    """Bytes of an image of a bag."""
    return next((tiny_folder / "Bag").glob("*.png")).read_bytes()


def form(*files):
    """A multipart form with these (bytes, name) in the field image."""
    return {"image": [(io.BytesIO(data), name) for data, name in files]}


def written_out(*files):
    """The same as other clients write it: Flask's test client leaves out a line break after a file that is empty."""
    body, headers = processes.form([data for data, _ in files], [name for _, name in files])
    return {"data": body, "headers": headers}


def assert_problem(response, status, *words):
    """The response is a problem document with this status whose detail has these words."""
    assert response.status_code == status
    assert response.content_type == PROBLEM
    body = json.loads(response.data)
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["instance"].startswith("urn:uuid:")
    for word in words:
        assert word in body["detail"]


def test_one_file_is_answered_with_its_classes(client, photo, tiny_task):
    response = client.post("/predict", data=form((photo, "bag.png")))
    assert response.status_code == 200
    body = response.json
    assert body["task"] == tiny_task
    assert body["model"] == registry.champion(tiny_task).name
    answer = body["predictions"][0]
    assert answer["filename"] == "bag.png"
    assert answer["label"] == "Bag"
    assert answer["top"][0] == {"label": "Bag", "probability": answer["probability"]}
    assert sum(entry["probability"] for entry in answer["top"]) == pytest.approx(1)
    assert len(answer["id"]) == 32


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", None]
)
def test_a_raw_body_is_answered_whatever_it_calls_itself(client, photo, content_type):
    response = client.post("/predict", data=photo, content_type=content_type)
    assert response.json["predictions"][0]["label"] == "Bag"
    assert response.json["predictions"][0]["filename"] is None


def test_many_files_have_their_result_or_their_own_error(client, photo):
    response = client.post(
        "/predict", **written_out((photo, "a.png"), (b"text", "b.txt"), (b"", "c.png"), (photo, "d.png"))
    )
    assert response.status_code == 200
    first, second, third, fourth = response.json["predictions"]
    assert first["label"] == fourth["label"] == "Bag"
    assert (second["error"]["status"], third["error"]["status"]) == (415, 400)
    assert second["filename"] == "b.txt"
    assert "label" not in second
    assert len({answer["id"] for answer in response.json["predictions"]}) == 4


def test_every_test_image_is_served_as_it_was_evaluated(client, tiny_task, tiny_folder):
    table = pd.read_csv(registry.champion(tiny_task).folder / "predictions.csv")
    files = [((tiny_folder / path).read_bytes(), path) for path in table["path"]]
    answers = client.post("/predict", data=form(*files)).json["predictions"]
    for (_, row), answer in zip(table.iterrows(), answers, strict=True):
        for entry in answer["top"]:
            assert entry["probability"] == pytest.approx(row[f"proba: {entry['label']}"], abs=1e-5)


def test_top_k_limits_the_classes(client, photo):
    for asked, given in (("1", 1), ("2", 2), ("99", 3), ("100000", 3)):
        response = client.post(f"/predict?top_k={asked}", data=form((photo, "a.png")))
        assert len(response.json["predictions"][0]["top"]) == given


@pytest.mark.parametrize("top_k", ["0", "-1", "two", "", "1.5", "²", "100001", "9" * 30])
def test_a_top_k_that_is_no_count_is_refused(client, photo, top_k):
    assert_problem(client.post("/predict", query_string={"top_k": top_k}, data=form((photo, "a"))), 400, "top_k")


def png(size):
    """A black PNG of this size."""
    buffer = io.BytesIO()
    Image.new("1", size).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"", 400, "empty"),
        (b"no image at all", 415, "known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "known format"),
        (png((10_000, 10_000)), 422, "52,000,000"),
        (png((1, 12_001)), 422, "12,000 a side"),
        (png((300, 300))[:60], 422, "decoded"),
    ],
)
def test_a_single_bad_file_is_a_problem_and_the_next_request_works(client, photo, data, status, word):
    assert_problem(client.post("/predict", **written_out((data, "x"))), status, word)
    assert client.post("/predict", data=photo).status_code == 200


def test_a_request_without_a_file_says_how_to_send_one(client):
    assert_problem(client.post("/predict"), 400, "field 'image'")
    assert_problem(client.post("/predict", data={"file": (io.BytesIO(b"x"), "x")}), 400, "'file'", "image=@file")
    assert_problem(
        client.post("/predict", data={"image": "text"}, content_type="multipart/form-data"), 400, "image=@file"
    )


def test_too_many_files_are_refused(client):
    assert_problem(client.post("/predict", data=form(*[(b"x", "x")] * 65)), 400, "65 files", "at most 64")


def test_a_body_is_read_up_to_the_limit_and_refused_beyond_it(client):
    for size, status in ((MAX_BODY - 1, 415), (MAX_BODY, 415), (MAX_BODY + 1, 413)):
        assert_problem(client.post("/predict", data=b"x" * size), status)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP"])
def test_a_compressed_body_is_refused_before_it_can_grow(client, photo, encoding):
    response = client.post("/predict", data=gzip.compress(photo), headers={"Content-Encoding": encoding})
    assert_problem(response, 415, encoding, "not compressed")
    assert client.post("/predict", data=photo, headers={"Content-Encoding": "identity"}).status_code == 200


def test_nothing_is_fetched_from_anywhere(client, photo, monkeypatch):
    def connect(self, address):
        raise AssertionError(f"a connection to {address} was asked for")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert client.post("/predict?explain=heatmap,neighbors", data=photo).status_code == 200
    assert client.post("/", data=form((photo, "bag.png"))).status_code == 200
    for path in ("/", "/card", "/docs", "/models", "/metrics", "/v2"):
        assert client.get(path).status_code == 200
    for field in ("url", "image_url", "image"):
        sent = {field: "http://127.0.0.1:9/image.png"}
        assert_problem(client.post("/predict", data=sent, content_type="multipart/form-data"), 400, "No image came")
        assert_problem(client.post("/predict", data=sent), 415, "refused")


def test_serving_writes_nothing_into_the_artifacts(keeping, photo, tiny_task):
    def state():
        return {path: path.stat().st_mtime_ns for path in task_dir(tiny_task).parent.rglob("*")}

    client, _ = keeping
    before = state()
    answer = client.post("/predict?explain=heatmap,neighbors", data=photo).json["predictions"][0]
    assert client.post("/feedback", json={"id": answer["id"], "label": "Bag"}).status_code == 201
    assert client.post("/", data=form((photo, "bag.png"))).status_code == 200
    assert state() == before


def test_a_long_text_field_is_not_told_the_limit_of_files(client):
    field = 'Content-Disposition: form-data; name="image"\r\n\r\n' + "x" * 600_000
    response = client.post(
        "/predict", data=f"--b\r\n{field}\r\n--b--\r\n", content_type="multipart/form-data; boundary=b"
    )
    assert_problem(response, 413, "longer text fields", "as files")


def test_another_task_is_not_here(client, photo):
    assert_problem(client.post("/predict?task=birds", data=photo), 404, "'birds'", "the tasks are tiny")


def test_the_frameworks_own_errors_are_problems_too(client):
    assert_problem(client.get("/nothing"), 404)
    response = client.get("/predict")
    assert_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_what_nobody_foresaw_is_a_problem_without_a_trace(client, photo, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret path")

    client.get("/readyz")
    monkeypatch.setattr("lib.prediction.Predictor.predict", fail)
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    response = client.post("/predict", data=photo)
    assert_problem(response, 500)
    assert b"secret" not in response.data


def test_without_a_model_the_service_lives_is_not_ready_and_says_why():
    client = create_app("birds").test_client()
    assert client.get("/livez").json == {"status": "alive"}
    assert_problem(client.get("/readyz"), 503, "no promoted model", "run_pipeline.sh")
    response = client.post("/predict", data=b"x")
    assert_problem(response, 503)
    assert response.headers["Retry-After"] == "10"


def test_a_task_name_that_cannot_be_one_is_bad_usage():
    with pytest.raises(ParameterError, match="'my birds'"):
        create_app("my birds")


def test_a_model_that_comes_later_is_picked_up(tiny_run, shared_folder, monkeypatch):
    client = create_app().test_client()
    assert client.get("/readyz").status_code == 503
    monkeypatch.setenv("ARTIFACTS_DIR", str(shared_folder / "artifacts"))
    assert [state["task"] for state in client.get("/readyz").json["tasks"]] == ["tiny"]


def test_a_damaged_model_is_not_served(tiny_task, tmp_path, monkeypatch):
    shutil.copytree(registry.champion(tiny_task).folder.parents[2], tmp_path / "copy")
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "copy"))
    path = registry.champion(tiny_task).folder / registry.MODEL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    assert_problem(create_app(tiny_task).test_client().get("/readyz"), 503, "damaged")


def test_an_answer_has_a_decision_and_a_set(client, photo):
    answer = client.post("/predict", data=photo).json["predictions"][0]
    assert answer["decision"] in ("accepted", "unsure", "unknown")
    assert answer["set"][0] == answer["label"]


def test_noise_is_told_as_unknown(client, save_image):
    answer = client.post("/predict", data=save_image("noise.png").read_bytes()).json["predictions"][0]
    assert answer["decision"] == "unknown"


def picture(url, kind):
    """The image that a data URL holds."""
    head, _, data = url.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_an_explanation_shows_what_speaks_for_the_answer_and_the_nearest_training_images(client, photo, tiny_task):
    files = form((photo, "bag.png"), (b"text", "b.txt"))
    first, second = client.post("/predict?explain=heatmap,neighbors", data=files).json["predictions"]
    assert first["heatmap"]["label"] == "Bag"
    assert picture(first["heatmap"]["image"], "png").size == (224, 224)
    assert len(first["neighbors"]) == 5
    distances = [neighbor["distance"] for neighbor in first["neighbors"]]
    assert distances == sorted(distances)
    assert first["neighbors"][0]["label"] == "Bag"
    assert max(picture(first["neighbors"][0]["image"], "jpeg").size) <= 96
    assert set(second) == {"id", "filename", "error"}
    plain = client.post("/predict", data=photo).json["predictions"][0]
    assert not {"heatmap", "neighbors"} & set(plain)


def test_an_explanation_that_does_not_exist_is_refused_and_few_files_are_explained(client, photo):
    assert_problem(client.post("/predict?explain=story", data=photo), 400, "heatmap,neighbors", "'story'")
    many = form(*[(photo, f"{number}.png") for number in range(9)])
    assert_problem(client.post("/predict?explain=heatmap", data=many), 400, "9 files", "at most 8")


def test_an_explanation_is_made_once_however_often_it_is_asked_for(client, photo, monkeypatch):
    made = []
    monkeypatch.setattr("lib.web.explain.shown_heat_map", lambda *_: made.append(1))
    client.post("/predict?explain=" + ",".join(["heatmap"] * 50), data=photo)
    assert made == [1]


@pytest.fixture
def copied(tiny_task, tmp_path, monkeypatch):
    """Artifacts of its own, with two tasks, "tiny" and "twin"."""
    shutil.copytree(task_dir(tiny_task).parent, tmp_path / "copy")
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "copy"))
    shutil.copytree(task_dir(tiny_task), task_dir("twin"))
    return tmp_path / "copy"


def test_several_tasks_are_told_apart_by_name(copied, photo):
    client = create_app().test_client()
    assert [state["task"] for state in client.get("/readyz").json["tasks"]] == ["tiny", "twin"]
    assert client.post("/predict?task=twin", data=photo).json["task"] == "twin"
    assert_problem(client.post("/predict", data=photo), 400, "tiny, twin", "?task=")
    assert create_app("twin").test_client().post("/predict", data=photo).json["task"] == "twin"


@pytest.fixture
def keeping(tiny_task):
    """A client of a service that keeps what it answers, and its log."""
    logs = ProductionLogs()
    yield create_app(tiny_task, logs=logs).test_client(), logs.get(tiny_task)
    logs.close()


def test_what_is_answered_is_kept_and_feedback_finds_it(keeping, photo):
    client, log = keeping
    files = form((photo, "a.png"), (b"text", "b.txt"), (photo, "c.png"))
    body = client.post("/predict", data=files).json
    assert body["logged"] is True
    assert log.counts() == (2, 0)
    assert log.images.path(sha256_bytes(photo)).read_bytes() == photo
    first = body["predictions"][0]["id"]
    answer = client.post("/feedback", json={"id": first, "label": " Trouser "})
    assert answer.status_code == 201
    assert answer.json == {"task": "tiny", "id": first, "label": "Trouser", "new": False, "repeated": False}
    by_image = client.post("/feedback", data=form((photo, "again.png")) | {"label": "Clutch"})
    assert by_image.status_code == 201
    assert by_image.json["new"] is True
    by_form = client.post("/feedback", data={"id": first, "label": "Bag"})
    assert by_form.json["label"] == "Bag"
    assert log.counts() == (2, 3)


def test_failed_requests_for_a_prediction_are_counted_in_the_log_of_the_task(keeping, photo, tiny_task):
    client, _ = keeping
    client.post("/predict", data=form((b"text", "a.txt")))
    client.post("/predict?top_k=x", data=form((photo, "a.png")))
    client.post("/predict", data=form((photo, "a.png")))
    client.post(f"/v2/models/{tiny_task}/infer", json={})
    client.post("/predict?task=none", data=form((photo, "a.png")))  # of no task
    client.get("/nothing")
    failures = client.application.extensions["failures"]
    failures.count(None, 503)  # as the server's loop does without the app
    failures.write()
    failures.write()  # each once
    assert read_failures(tiny_task, "", 0, time.time() + 1) == {400: 2, 415: 1, 503: 1}


def test_counts_that_cannot_be_written_wait(keeping, tiny_task, monkeypatch):
    client, log = keeping
    failures = client.application.extensions["failures"]
    assert log.counts() == (0, 0)  # it is there
    client.post("/predict?top_k=x")
    with monkeypatch.context() as patched:
        patched.setattr(log, "add_failures", lambda counts: raised(LogError("the disk is full")))
        failures.write()
    assert read_failures(tiny_task, "", 0, time.time() + 1) == {}
    failures.write()
    assert read_failures(tiny_task, "", 0, time.time() + 1) == {400: 1}


def raised(error):
    raise error


def test_metrics_tell_what_the_last_monitoring_said(copied):
    client = create_app("tiny").test_client()
    client.get("/readyz")
    assert "monitoring_state{" not in client.get("/metrics").text
    facts = {"state": "alarm", "time": "2026-11-26T12:00:00Z", "p_value": 0.001, "since": "", "text": ""}
    facts |= {"causes": [], "windows": []}
    write_json(task_dir("tiny") / "monitoring.json", facts)
    told = client.get("/metrics").text
    assert 'monitoring_state{state="alarm",task="tiny"} 1.0' in told
    assert 'monitoring_state{state="ok",task="tiny"} 0.0' in told
    assert 'monitoring_p_value{task="tiny"} 0.001' in told
    assert 'monitoring_timestamp_seconds{task="tiny"} 1.7956944e+09' in told


def test_feedback_with_a_key_counts_once(keeping, photo):
    client, log = keeping
    name = client.post("/predict", data=photo).json["predictions"][0]["id"]
    key = {"Idempotency-Key": "once"}
    first, again = (client.post("/feedback", json={"id": name, "label": "Bag"}, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json == first.json | {"repeated": True}
    assert_problem(client.post("/feedback", json={"id": name, "label": "Trouser"}, headers=key), 422, "other feedback")
    assert log.counts() == (1, 1)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"json": {"id": "nothing", "label": "Bag"}}, 404, "no prediction 'nothing'; ids have 32"),
        ({"json": {"id": "x"}}, 400, "`label`"),
        ({"json": {"id": "x", "label": ""}}, 400, "`label`"),
        ({"json": {"id": "x", "label": 3}}, 400, "`label`"),
        ({"json": {"id": "x", "label": "a\nb"}}, 400, "`label`"),
        ({"json": {"id": "x", "label": "   "}}, 400, "`label`"),
        ({"json": {"id": "x", "label": "a\u2028b"}}, 400, "`label`"),
        ({"data": b'{"id": "x", "label": "\\ud800"}', "content_type": "application/json"}, 400, "`label`"),
        ({"json": {"id": "0" * 32, "label": "Bag"}}, 404, "it was never made"),
        ({"json": {"id": "x\0", "label": "Bag"}}, 404, "ids have 32"),
        ({"json": {"id": "x", "label": "x" * 201}}, 400, "1 to 200 characters"),
        ({"json": {"label": "Bag"}}, 400, "`id`"),
        ({"json": {"id": 3, "label": "Bag"}}, 400, "`id`"),
        ({"json": [1]}, 400, "JSON object"),
        ({"data": b"{", "content_type": "application/json"}, 400, "JSON object"),
        ({"data": b"[" * 9_000, "content_type": "application/json"}, 400, "JSON object"),
        ({"data": b"[" * 11_000, "content_type": "application/json"}, 413, "10,000 bytes"),
        ({"json": {"id": "0" * 32, "label": "Bag"}, "headers": {"Idempotency-Key": "k" * 201}}, 400, "Idempotency-Key"),
    ],
)
def test_feedback_that_means_nothing_is_refused(keeping, sent, status, said):
    client, log = keeping
    assert_problem(client.post("/feedback", **sent), status, said)
    assert log.counts() == (0, 0)


def test_feedback_to_an_image_that_was_never_sent_is_404(keeping):
    never = form((b"never sent", "x.png")) | {"label": "Bag"}
    assert_problem(keeping[0].post("/feedback", data=never), 404, "of this image")


def test_without_a_log_predictions_are_answered_and_feedback_is_off(client, photo):
    assert client.post("/predict", data=photo).json["logged"] is False
    assert client.get("/readyz").json["tasks"][0]["log"] == "not kept"
    assert_problem(client.post("/feedback", json={"id": "x", "label": "Bag"}), 503, "--no-log")


def test_a_log_that_cannot_be_written_stops_no_prediction_and_is_told(keeping, photo):
    client, _ = keeping
    assert client.get("/readyz").json["tasks"][0]["log"] == "kept"
    name = client.post("/predict", data=photo).json["predictions"][0]["id"]
    other = sqlite3.connect(production_dir("tiny") / "production.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    body = client.post("/predict", data=photo).json
    assert (body["predictions"][0]["label"], body["logged"]) == ("Bag", False)
    response = client.post("/feedback", json={"id": name, "label": "Bag"})
    assert_problem(response, 503, "locked")
    assert response.headers["Retry-After"] == "5"
    assert "locked" in client.get("/readyz").json["tasks"][0]["log"]
    other.execute("COMMIT")
    other.close()
    assert client.post("/feedback", json={"id": name, "label": "Bag"}).status_code == 201
    assert client.get("/readyz").json["tasks"][0]["log"] == "kept"


TOKEN = "a-token-of-enough-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def operator(copied, monkeypatch):
    """A client of a service whose token is set, and the names of two versions of "tiny", the second one new."""
    monkeypatch.setenv("SERVE_TOKEN", TOKEN)
    champion = registry.champion("tiny")
    shutil.copytree(champion.folder, champion.folder.with_name("2999-new"))
    return create_app("tiny").test_client(), champion.name, "2999-new"


def test_a_version_is_promoted_and_rolled_back_while_the_service_answers(operator, photo):
    client, old, new = operator
    assert client.post("/predict", data=photo).json["model"] == old
    answer = client.post(f"/models/{new}/promote", headers=BEARER)
    assert answer.json == {"task": "tiny", "champion": new, "answering": new}
    assert client.post("/predict", data=photo).json["model"] == new
    models = client.get("/models").json
    assert [(model["version"], model["champion"]) for model in models["models"]] == [(old, False), (new, True)]
    assert models["models"][0]["test"]["n"] > 0
    assert client.post("/models/rollback", headers=BEARER).json["answering"] == old
    assert client.post("/predict", data=photo).json["model"] == old
    assert_problem(client.post("/models/rollback", headers=BEARER), 409, "no earlier champion")


def test_a_rollback_passes_over_a_version_that_cannot_be_loaded(operator, photo):
    client, old, new = operator
    third = task_dir("tiny") / "models" / "2999-newer"
    shutil.copytree(third.with_name(new), third)
    for name in (new, third.name):
        assert client.post(f"/models/{name}/promote", headers=BEARER).json["answering"] == name
    card = third.with_name(new) / "card.json"
    write_json(card, json.loads(card.read_text()) | {"classes": ["cat"]})
    registry.store._write_checksums(card.parent, list(registry.read_checksums(card.parent)))
    assert client.post("/models/rollback", headers=BEARER).json["answering"] == old
    assert client.post("/predict", data=photo).json["model"] == old


def test_a_damaged_version_is_not_promoted(operator, photo):
    client, old, new = operator
    path = task_dir("tiny") / "models" / new / registry.MODEL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    assert_problem(client.post(f"/models/{new}/promote", headers=BEARER), 409, "damaged")
    assert registry.champion("tiny").name == client.post("/predict", data=photo).json["model"] == old
    damaged = client.get("/models").json["models"][1]
    assert "damaged" in damaged["problem"]


@pytest.mark.parametrize(("file", "content"), [("card.json", "{}"), ("card.json", "[]"), ("metrics.json", "[]")])
def test_a_version_that_says_nothing_of_itself_hides_no_other(operator, file, content):
    client, _, new = operator
    folder = task_dir("tiny") / "models" / new
    (folder / file).write_text(content)
    registry.store._write_checksums(folder, list(registry.read_checksums(folder)))
    models = client.get("/models").json["models"]
    assert models[0]["test"]["n"] > 0
    assert models[1]["problem"]
    assert_problem(client.post(f"/models/{new}/promote", headers=BEARER), 409, "cannot serve")


@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e", "..%2f..", "%00", "x" * 300])
def test_a_version_that_does_not_exist_is_404_wherever_its_name_would_lead(operator, name):
    assert operator[0].post(f"/models/{name}/promote", headers=BEARER).status_code == 404


@pytest.mark.parametrize("route", ["/models/rollback", "/models/2999-new/promote"])
def test_changing_what_serves_needs_the_token(operator, route, copied, monkeypatch):
    client = operator[0]
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
    ):
        response = client.post(route, headers=headers)
        assert_problem(response, 401, "Authorization: Bearer")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    monkeypatch.delenv("SERVE_TOKEN")
    assert_problem(create_app("tiny").test_client().post(route, headers=BEARER), 403, "SERVE_TOKEN")


def begin(client, **wanted):
    return client.put("/experiment", json=wanted, headers=BEARER)


def test_an_experiment_deals_clients_and_tells_what_labels_say(operator, photo):
    _, old, new = operator
    logs = ProductionLogs()
    client = create_app("tiny", logs=logs).test_client()
    assert client.get("/experiment").json == {"task": "tiny", "experiment": None, "verdict": None}
    begun = begin(client, challenger=new, share=0.5, effect=0.1).json
    assert (begun["experiment"]["champion"], begun["experiment"]["challenger"]) == (old, new)
    assert begun["verdict"]["state"] == "wait"
    found = {}
    for number in range(12):
        headers = {"X-Client-ID": f"visitor {number}"}
        answers = [client.post("/predict", data=photo, headers=headers).json for _ in range(2)]
        assert answers[0]["arm"] == answers[1]["arm"]
        assert answers[0]["model"] == {"champion": old, "challenger": new}[answers[0]["arm"]]
        found[answers[0]["arm"]] = answers[0]["predictions"][0]["id"]
        client.set_cookie("client", f"visitor {number}")
        assert client.post("/predict", data=photo).json["arm"] == answers[0]["arm"]
        client.delete_cookie("client")
    assert set(found) == {"champion", "challenger"}
    for id in found.values():
        assert client.post("/feedback", json={"id": id, "label": "Bag"}).status_code == 201
    verdict = client.get("/experiment").json["verdict"]
    assert verdict["champion"]["labels"] == verdict["challenger"]["labels"] == 1
    assert verdict["champion"]["clients"] + verdict["challenger"]["clients"] == 12
    states = {model["version"]: model["challenger"] for model in client.get("/models").json["models"]}
    assert states == {old: False, new: True}
    assert client.delete("/experiment", headers=BEARER).json["experiment"] is None
    assert {client.post("/predict", data=photo, headers={"X-Client-ID": str(i)}).json["arm"] for i in range(12)} == {
        "champion"
    }
    logs.close()


def test_in_shadow_the_answer_is_the_champions_and_both_are_kept(operator, photo):
    _, old, new = operator
    logs = ProductionLogs()
    client = create_app("tiny", logs=logs).test_client()
    assert begin(client, challenger=new, mode="shadow").status_code == 200
    answer = client.post("/predict", data=form((photo, "a.png"), (b"text", "b.txt"))).json
    assert (answer["arm"], answer["model"]) == ("champion", old)
    assert logs.get("tiny").counts()[0] == 2
    client.post("/feedback", data=form((photo, "again.png")) | {"label": "Bag"})
    verdict = client.get("/experiment").json["verdict"]
    assert verdict["champion"]["labels"] == verdict["challenger"]["labels"] == 1
    logs.close()


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"challenger": "nothing"}, 404, "no version 'nothing'"),
        ({"share": 2}, 400, "share must lie"),
        ({"mode": "both"}, 400, "split or shadow"),
        ({"share": "half"}, 400, "must be a number"),
        ({"challenger": 7}, 400, "must be a text"),
        ({"other": 1}, 400, "members of challenger"),
        ([], 400, "JSON object"),
    ],
)
def test_what_makes_no_experiment_is_refused_and_changes_nothing(operator, wanted, status, said):
    client, _, new = operator
    body = {"challenger": new} | wanted if isinstance(wanted, dict) else wanted
    assert_problem(client.put("/experiment", json=body, headers=BEARER), status, said)
    assert client.get("/experiment").json["experiment"] is None


def test_without_a_challenger_that_waits_one_must_be_named(operator):
    client, _, new = operator
    assert_problem(begin(client), 400, "No version waits")
    registry.challenge("tiny", new)
    assert begin(client).json["experiment"]["challenger"] == new


def test_a_challenger_that_cannot_be_loaded_or_is_the_champion_is_refused(operator):
    client, old, new = operator
    assert_problem(begin(client, challenger=old), 409, "the champion itself")
    path = task_dir("tiny") / "models" / new / registry.MODEL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    assert_problem(begin(client, challenger=new), 409, "damaged")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_changing_an_experiment_needs_the_token(operator, method):
    assert_problem(operator[0].open("/experiment", method=method, json={}), 401, "Authorization: Bearer")


def test_the_token_may_be_in_a_file_and_must_be_long(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("SERVE_TOKEN_FILE", str(tmp_path / "token"))
    assert create_app().config["SERVE_TOKEN"] == TOKEN
    (tmp_path / "token").write_text("short")
    with pytest.raises(ParameterError, match="5 characters; at least 16"):
        create_app()
    (tmp_path / "token").write_text("no header can hold this: ö")
    with pytest.raises(ParameterError, match="letters, digits"):
        create_app()
    (tmp_path / "token").unlink()
    with pytest.raises(ParameterError, match="cannot be read"):
        create_app()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(client, photo, headers, status):
    assert client.post("/predict", data=photo, headers=headers).status_code == status


@pytest.fixture
def asking(tiny_task, monkeypatch):
    """A client of a service that answers only who has a token."""
    monkeypatch.setenv("PREDICT_TOKEN", "for-those-who-may-ask")
    monkeypatch.setenv("SERVE_TOKEN", "for-those-who-may-change")
    return create_app(tiny_task).test_client()


@pytest.mark.parametrize("path", ["/", "/models", "/openapi.json", "/v2", "/nothing"])
def test_with_a_token_to_ask_nothing_but_the_probes_is_open(asking, path):
    response = asking.get(path)
    assert response.status_code == 401
    assert [word.split()[0] for word in response.headers.getlist("WWW-Authenticate")] == ["Bearer", "Basic"]
    for probe in ("/livez", "/readyz", "/healthz", "/metrics", "/v2/health/live", "/v2/health/ready"):
        assert asking.get(probe).status_code == 200


@pytest.mark.parametrize(
    ("credentials", "site", "status"),
    [
        ("Bearer for-those-who-may-ask", None, 200),
        ("Bearer for-those-who-may-change", None, 200),
        ("Bearer wrong-wrong-wrong-wrong", None, 401),
        ("bearer", None, 401),
        ("Basic " + base64.b64encode(b":for-those-who-may-ask").decode(), None, 200),
        ("Basic " + base64.b64encode(b"me:for-those-who-may-change").decode(), None, 401),
        ("Basic " + base64.b64encode("ä:ö".encode()).decode(), None, 401),
        ("Bearer for-those-who-may-ask", "cross-site", 200),
        ("Basic " + base64.b64encode(b":for-those-who-may-ask").decode(), "cross-site", 403),
    ],
)
def test_a_token_opens_as_bearer_or_as_a_browsers_password(asking, photo, credentials, site, status):
    headers = {"Authorization": credentials} | ({"Sec-Fetch-Site": site} if site else {})
    assert asking.post("/predict", data=photo, headers=headers).status_code == status


def test_a_token_to_ask_changes_nothing(asking):
    response = asking.post("/models/rollback", headers={"Authorization": "Bearer for-those-who-may-ask"})
    assert_problem(response, 401, "token")


def test_a_client_that_asks_too_often_is_429_and_told_how_long_to_wait(tiny_task, photo):
    client = create_app(tiny_task, rate_limit=2).test_client()
    client.get("/readyz")  # loads the model, which takes longer than a bit of the quota
    first = client.post("/predict", data=photo)
    assert first.status_code == 200
    assert first.headers["RateLimit-Policy"] == '"client";q=2;w=60'
    assert first.headers["RateLimit"] == '"client";r=1;t=0'
    assert client.post("/predict", data=b"no image").headers["RateLimit"].startswith('"client";r=0;t=')
    foreign = client.post("/predict", data=photo, headers={"Sec-Fetch-Site": "cross-site"})
    assert_problem(foreign, 403)  # and costs its victim nothing
    refused = client.post("/predict", data=photo)
    assert_problem(refused, 429, "More than 2 requests", "60 seconds")
    assert 20 <= int(refused.headers["Retry-After"]) <= 30
    assert client.get("/readyz").status_code == 200
    other = client.post("/predict", data=photo, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("me@localhost", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_on_the_loopback_only_its_own_names_are_answered(tiny_task, host, status):
    client = create_app(tiny_task, hosts=browser.trusted_hosts("127.0.0.1", [])).test_client()
    response = client.get("/livez", headers={"Host": host})
    assert response.status_code == status
    if status == 400:
        assert_problem(response, 400)


def test_names_are_those_of_the_loopback_and_those_allowed():
    assert browser.trusted_hosts("0.0.0.0", []) is None
    assert browser.trusted_hosts("0.0.0.0", ["birds.example"]) == ["birds.example"]
    assert browser.trusted_hosts("::1", ["birds.example"]) == ["localhost", "127.0.0.1", "::1", "birds.example"]


SITE = "https://birds.example"


def test_pages_of_other_sites_read_nothing_unless_they_are_allowed(tiny_task, photo):
    foreign = {"Origin": SITE, "Sec-Fetch-Site": "cross-site"}
    asked = foreign | {"Access-Control-Request-Method": "POST"}
    closed = create_app(tiny_task).test_client()
    assert closed.post("/predict", data=photo, headers=foreign).status_code == 403
    assert "Access-Control-Allow-Origin" not in closed.get("/models", headers=foreign).headers
    assert "Access-Control-Allow-Origin" not in closed.options("/predict", headers=asked).headers

    opened = create_app(tiny_task, origins=[SITE]).test_client()
    preflight = opened.options("/predict", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == SITE
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    answer = opened.post("/predict", data=photo, headers=foreign)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SITE
    assert answer.headers["Vary"] == "Origin"
    other = opened.post("/predict", data=photo, headers=foreign | {"Origin": "https://evil.example"})
    assert other.status_code == 403
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_page_that_is_allowed_asks_whether_it_may_without_a_token(tiny_task, monkeypatch):
    monkeypatch.setenv("PREDICT_TOKEN", "for-those-who-may-ask")
    client = create_app(tiny_task, origins=[SITE]).test_client()
    asked = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    assert client.options("/predict", headers=asked).status_code == 204
    assert client.get("/models", headers={"Origin": SITE}).status_code == 401


@pytest.mark.parametrize("text", ["birds.example", "https://birds.example/", "*", "null", "ftp://birds.example", ""])
def test_what_is_no_origin_is_bad_usage(text):
    with pytest.raises(ParameterError, match="is no origin"):
        create_app(origins=[text])


def test_a_name_with_a_dot_before_it_stands_for_all_below_it():
    assert browser.is_named("api.birds.example:80", [".birds.example"])
    assert not browser.is_named("birds.example", [".birds.example"])
    assert not browser.is_named("evilbirds.example", ["birds.example"])


@pytest.mark.parametrize("path", ["/livez", "/nothing", "/models", "/metrics"])
def test_every_answer_forbids_browsers_what_it_does_not_need(client, path):
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_work_beyond_the_bound_is_sent_away_at_once(tiny_task, photo):
    app = create_app(tiny_task, max_inflight=1)
    client = app.test_client()
    with app.extensions["admission"].accepted():
        response = client.post("/predict", data=photo)
        assert_problem(response, 503, "takes on no more")
        assert response.headers["Retry-After"] == "1"
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    assert client.post("/predict", data=photo).status_code == 200


def test_past_its_deadline_a_request_is_504_and_leaves_no_trace(tiny_task, photo):
    app = create_app(tiny_task, deadline=1e-9)
    assert_problem(app.test_client().post("/predict", data=photo), 504, "seconds")
    assert app.extensions["admission"].n_inflight == 0


def curl(*arguments):
    """Run curl: its exit status and output."""
    result = subprocess.run(["curl", "-sS", "-w", "\n%{http_code} %{content_type}", *arguments], capture_output=True)
    body, _, tail = result.stdout.decode().rpartition("\n")
    return result.returncode, body, tail


def test_curl_gets_its_answer_and_big_bodies_their_problem(server, tiny_folder, tmp_path):
    image = next((tiny_folder / "Trouser").glob("*.png"))
    _, body, tail = curl("-F", f"image=@{image}", f"{server}/predict")
    assert tail == "200 application/json"
    assert json.loads(body)["predictions"][0]["label"] == "Trouser"
    (tmp_path / "big.bin").write_bytes(b"x" * (MAX_BODY + 1_000_000))
    for sent in (
        ["-F", f"image=@{tmp_path}/big.bin"],
        ["--data-binary", f"@{tmp_path}/big.bin"],
        ["-H", "Transfer-Encoding: chunked", "--data-binary", f"@{tmp_path}/big.bin"],
    ):
        _, body, tail = curl(*sent, f"{server}/predict")
        assert tail == f"413 {PROBLEM}"
        assert "25,000,000 bytes" in json.loads(body)["detail"]
    _, body, tail = curl("--data-binary", f"@{image}", f"{server}/predict?top_k=1")
    assert tail == "200 application/json"


def test_a_taken_port_is_one_line_and_exit_1(server, shared_environment):
    port = server.rpartition(":")[2]
    command = [sys.executable, "serve.py", "--port", port]
    result = subprocess.run(
        command, cwd=PROJECT_ROOT, env=shared_environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"Cannot listen on 127.0.0.1:{port}")
    assert len(result.stderr.splitlines()) == 1


ONLY_ITS_OWN = """
import importlib.metadata, sys
sys.path.insert(0, ".")
from lib.environment import ROOT, pins

def plain(names):
    return {name.lower().replace("_", "-") for name in names}

more = plain(pins(ROOT / "requirements-test.txt")) - plain(pins(ROOT / "deploy" / "serve.lock"))
modules = {module for module, names in importlib.metadata.packages_distributions().items() if plain(names) <= more}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in modules:
            raise ModuleNotFoundError(f"{name} is not among the service's requirements")

assert {"pandas", "torch", "matplotlib", "tqdm", "papermill"} <= modules
sys.meta_path.insert(0, Absent())
from lib.production import ProductionLogs
from serve import create_app
logs = ProductionLogs()
client = create_app(logs=logs).test_client()
answer = client.post("/predict?explain=heatmap,neighbors", data=open(sys.argv[1], "rb").read())
assert answer.status_code == 200 and answer.json["logged"], answer.json
for path in ("/models", "/experiment", "/metrics", "/openapi.json", "/readyz"):
    assert client.get(path).status_code == 200, path
logs.close()
print(sorted(modules & set(sys.modules)))
"""


def test_the_service_needs_nothing_but_its_own_requirements(tiny_run, shared_environment, tiny_folder):
    image = next((tiny_folder / "Bag").glob("*.png"))
    result = subprocess.run(
        [sys.executable, "-c", ONLY_ITS_OWN, str(image)],
        cwd=PROJECT_ROOT, env=shared_environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]", result.stderr
