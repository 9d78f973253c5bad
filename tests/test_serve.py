"""The service through its test client, and as a real process over real connections."""

import io
import json
import signal
import socket
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from lib import registry
from lib.storage import PROJECT_ROOT
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
        "/predict", data=form((photo, "a.png"), (b"text", "b.txt"), (b"", "c.png"), (photo, "d.png"))
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
    for asked, given in (("1", 1), ("2", 2), ("99", 3), ("9" * 30, 3)):
        response = client.post(f"/predict?top_k={asked}", data=form((photo, "a.png")))
        assert len(response.json["predictions"][0]["top"]) == given


@pytest.mark.parametrize("top_k", ["0", "-1", "two", "", "1.5", "²"])
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
    assert_problem(client.post("/predict", data=form((data, "x"))), status, word)
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


def test_a_long_text_field_is_not_told_the_limit_of_files(client):
    field = 'Content-Disposition: form-data; name="image"\r\n\r\n' + "x" * 600_000
    response = client.post(
        "/predict", data=f"--b\r\n{field}\r\n--b--\r\n", content_type="multipart/form-data; boundary=b"
    )
    assert_problem(response, 413, "longer text fields", "as files")


def test_another_task_is_not_here(client, photo):
    assert_problem(client.post("/predict?task=birds", data=photo), 404, "'birds'", "'tiny'")


def test_the_frameworks_own_errors_are_problems_too(client):
    assert_problem(client.get("/nothing"), 404)
    response = client.get("/predict")
    assert_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_what_nobody_foresaw_is_a_problem_without_a_trace(client, photo, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret path")

    monkeypatch.setattr("lib.prediction.Predictor.predict", fail)
    client.get("/readyz")
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


def test_a_task_name_that_cannot_be_one_is_told_by_readiness():
    assert_problem(create_app("my birds").test_client().get("/readyz"), 503, "'my birds'")


def test_a_model_that_comes_later_is_picked_up(tiny_run, shared_folder, monkeypatch):
    client = create_app().test_client()
    assert client.get("/readyz").status_code == 503
    monkeypatch.setenv("ARTIFACTS_DIR", str(shared_folder / "artifacts"))
    assert client.get("/readyz").json["task"] == "tiny"


def test_a_damaged_model_is_not_served(tiny_task, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(registry.champion(tiny_task).folder.parents[2], tmp_path / "copy")
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "copy"))
    path = registry.champion(tiny_task).folder / registry.MODEL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    assert_problem(create_app(tiny_task).test_client().get("/readyz"), 503, "damaged")


@pytest.fixture
def server(tiny_run, shared_environment):
    """A real process of serve.py: its address. It is ended with SIGTERM and must exit 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "serve.py", "--port", str(port)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=shared_environment, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    assert "ready" in line, line
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    process.stderr.close()


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


def test_the_service_imports_neither_torch_nor_the_notebooks_packages(tiny_run, shared_environment, tiny_folder):
    image = next((tiny_folder / "Bag").glob("*.png"))
    code = (
        "import sys; from serve import create_app; client = create_app().test_client()\n"
        f"assert client.post('/predict', data=open({str(image)!r}, 'rb').read()).status_code == 200\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'papermill', 'matplotlib', 'IPython'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, env=shared_environment, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr
