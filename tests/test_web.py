"""What lib/web does below the routes; the routes themselves are tested in test_serve.py."""

import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import flask
import numpy as np
import pytest
from processes import running
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.exceptions import RequestEntityTooLarge

from lib.errors import ImageError
from lib.log_lines import JsonFormatter
from lib.web import forms, openapi, problems
from serve import create_app


@pytest.mark.parametrize(
    ("kind", "status"), [("empty", 400), ("unsupported", 415), ("broken", 422), ("too_large", 422)]
)
def test_each_kind_of_refusal_has_its_status(kind, status):
    problem = problems.from_image_error(ImageError("because", kind))
    assert problem.status == status
    assert "because" in problem.detail


def test_a_document_has_the_members_of_rfc_9457_and_a_constant_title():
    assert problems.document(404, "no such page") == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no such page",
    }


def metric(client, name, **labels):
    """A sample of /metrics; None where there is none."""
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_metrics_count_requests_by_route_and_never_by_what_a_client_chose():
    client = create_app().test_client()
    client.get("/livez")
    client.get("/livez")
    client.get("/a-name-of-its-own")
    client.open("/livez", method="BREW")
    assert metric(client, "http_requests_total", method="GET", route="/livez", status="200") == 2
    assert metric(client, "http_requests_total", method="GET", route="none", status="404") == 1
    assert metric(client, "http_requests_total", method="other", route="none", status="405") is not None
    assert "a-name-of-its-own" not in client.get("/metrics").text
    assert metric(client, "http_request_duration_seconds_count", route="/livez") >= 2


def test_metrics_tell_of_models_answers_and_refusals(tiny_task, tiny_folder):
    app = create_app(tiny_task, max_inflight=1)
    client = app.test_client()
    photo = next((tiny_folder / "Bag").glob("*.png")).read_bytes()
    answer = client.post("/predict", data=photo).json
    with app.extensions["admission"].accepted():
        client.post("/predict", data=photo)
        assert metric(client, "requests_in_flight") == 1
    assert metric(client, "requests_refused_total") == 1
    decision = answer["predictions"][0]["decision"]
    assert metric(client, "predictions_total", task="tiny", decision=decision) == 1
    assert metric(client, "model_info", task="tiny", version=answer["model"]) == 1
    assert metric(client, "model_reloads_total", task="tiny") == 1
    assert metric(client, "model_reload_failures_total", task="tiny") == 0
    assert metric(client, "process_resident_memory_bytes") > 0


def test_every_request_is_one_json_line_whatever_its_path(caplog):
    client = create_app().test_client()
    given = "123e4567-e89b-42d3-a456-426614174000"
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with caplog.at_level("INFO", logger="access"):
        response = client.get(
            "/x%0aforged", headers={"X-Request-ID": given, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        )
    assert response.headers["X-Request-ID"] == given
    assert response.json["instance"] == f"urn:uuid:{given}"
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["request_id"], entry["trace_id"], entry["status"]) == (given, trace, 404)
    assert entry["path"] == "/x\nforged"
    assert entry["level"] == "info"


def test_an_id_that_is_no_uuid_is_not_taken_over():
    response = create_app().test_client().get("/livez", headers={"X-Request-ID": "evil id", "traceparent": "nonsense"})
    assert response.headers["X-Request-ID"] != "evil id"
    assert len(response.headers["X-Request-ID"]) == 36


def test_probes_are_not_logged_unless_they_fail(caplog):
    client = create_app().test_client()
    with caplog.at_level("INFO", logger="access"):
        client.get("/livez")
        client.get("/readyz")
    assert [record.facts["path"] for record in caplog.records] == ["/readyz"]


def test_the_openapi_document_and_the_routes_are_the_same_set():
    app = create_app()
    documented = {
        (path, method) for path, item in openapi.document(1)["paths"].items() for method in set(item) - {"parameters"}
    }
    routes = {
        (re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert documented == routes
    assert app.test_client().get("/openapi.json").json["openapi"] == "3.1.0"


def test_schemathesis_finds_nothing(tiny_run, shared_environment, tmp_path):
    environment = shared_environment | {"SERVE_TOKEN": "a-token-of-enough-characters", "PRODUCTION_DIR": str(tmp_path)}
    with running(environment) as service:
        command = [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{service.address}/openapi.json"),
            *("--max-examples", "15", "--seed", "0", "--phases", "examples,coverage,fuzzing", "--workers", "2"),
            # No schema can say which bytes are an image, or which names exist.
            *("--exclude-checks", "positive_data_acceptance"),
            *("-H", "Authorization: Bearer a-token-of-enough-characters", "--request-timeout", "30"),
        ]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stdout[-6000:]


HEAD = b'--b\r\nContent-Disposition: form-data; name="image"'


def read_form(body, boundary="b"):
    """The request of a multipart body, as the service reads it."""
    content = {"CONTENT_TYPE": f"multipart/form-data; boundary={boundary}", "CONTENT_LENGTH": str(len(body))}
    request = forms.Request({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(body), **content})
    request.max_form_memory_size, request.max_form_parts = 1000, 5
    return request


@pytest.mark.parametrize("size", [0, 1, 50_000, forms.CHUNK - 150, forms.CHUNK, 3 * forms.CHUNK + 1])
def test_a_form_is_read_as_werkzeug_reads_it(size):
    data = b"\r\n--" + np.random.default_rng(size).bytes(size) + b"\r\n--not the boundary\r"
    head = b"--b\r\nContent-Disposition: form-data; name="
    parts = [
        b'"a"\r\n\r\n1', b'"a"\r\n\r\n\xc3\xbc', b'"b"\r\n\r\n',
        b'"image"; filename="x.png"\r\nContent-Type: image/png\r\n\r\n' + data, b'"image"; filename=""\r\n\r\n',
    ]  # fmt: skip
    body = b"".join(head + part + b"\r\n" for part in parts) + b"--b--\r\n"
    content = "multipart/form-data; boundary=b"
    shared = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": content, "CONTENT_LENGTH": str(len(body))}
    ours, theirs = [kind(shared | {"wsgi.input": io.BytesIO(body)}) for kind in (forms.Request, flask.Request)]
    assert ours.form == theirs.form
    assert ours.form.getlist("a") == ["1", "\u00fc"]
    read, expected = [
        [(file.filename, file.read()) for file in request.files.getlist("image")] for request in (ours, theirs)
    ]
    theirs.close()
    assert read == expected
    assert read[0] == ("x.png", data)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('filename="a.png"', "a.png"),
        ('filename="\u72ac.png"', "\u72ac.png"),
        ("filename*=UTF-8''%E7%8A%AC.png", "\u72ac.png"),  # urllib3 before 2.0
        ('filename="with %22quotes%22.png"', 'with "quotes".png'),  # browsers
        (r'filename="with \"quotes\".png"', 'with "quotes".png'),  # curl before 7.81
        ("filename=bare.png", "bare.png"),
        (r'filename="C:\photos\dog.png"', "dog.png"),
        ('filename=""', ""),
    ],
)
def test_a_file_has_the_name_that_its_client_wrote(written, name):
    body = HEAD + f"; {written}\r\n\r\nbytes\r\n--b--\r\n".encode()
    (file,) = read_form(body).files.getlist("image")
    assert (file.filename, file.read()) == (name, b"bytes")


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (b"", "b"),
        (HEAD + b"\r\n\r\nbytes", "b"),
        (HEAD + b'; filename="a.png"\r\n\r\nbytes\r\n--b', "b"),
        (HEAD + b"\r\n\r\nbytes\r\n--b--\r\n", ""),
        (HEAD + b"\r\n\r\nbytes\r\n--b--\r\n", "another"),
        (b"--b\r\nContent-Type: image/png\r\n\r\nbytes\r\n--b--\r\n", "b"),
        (HEAD + b'; filename="\xff"\r\n\r\nbytes\r\n--b--\r\n', "b"),
    ],
)
def test_a_form_that_cannot_be_read_is_400_and_says_so(body, boundary):
    with pytest.raises(problems.Problem, match=r"cannot be read \([^()']+\); send it anew") as caught:
        read_form(body, boundary).files.keys()
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "parts",
    [
        [b"\r\n\r\n"] * 6,
        [b"\r\n\r\n" + b"x" * 501] * 2,  # together
        [b"\r\nX: " + b"x" * 5000 + b"\r\n\r\n"],
        [b"\r\nX: x" * 20 + b"\r\n\r\n"],
    ],
)
def test_a_form_of_too_many_parts_too_much_text_or_too_long_headers_is_413(parts):
    body = b"\r\n".join(HEAD + part for part in parts) + b"\r\n--b--\r\n"
    with pytest.raises(RequestEntityTooLarge):
        read_form(body).form.keys()


def test_what_is_no_multipart_form_is_read_as_before():
    content = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": "9"}
    request = forms.Request({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"label=dog"), **content})
    assert dict(request.form) == {"label": "dog"}


def test_a_mutated_form_is_read_or_refused_and_nothing_else_happens():
    sound = (
        HEAD + b'; filename="a.png"\r\nContent-Type: image/png\r\n\r\nbytes\r\n' + HEAD + b"\r\n\r\ntext\r\n--b--\r\n"
    )
    tokens = [*b"\r\n|\n|\r|--b|\"|\\|;|%22|; filename*=x''%ff|\xff|\0".split(b"|"), b": x" * 999]
    draw, seen = random.Random(0), set()
    for _ in range(3000):
        body = bytearray(sound)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(body))
            body[place : place + draw.choice((0, 0, 1, 9))] = draw.choice([*tokens, bytes([draw.randrange(256)])])
        try:
            seen.update(type(file.read()) for file in read_form(bytes(body)).files.values())
        except (problems.Problem, RequestEntityTooLarge) as refused:
            seen.add(type(refused))
    assert seen == {bytes, problems.Problem, RequestEntityTooLarge}
