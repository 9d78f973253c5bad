"""The service as a process among many clients: overload, slow clients, limits, new models, and how it ends."""

import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from processes import ask, form, free_port, running

from lib import registry
from lib.prediction import Predictor
from lib.registry.store import _write_checksums
from lib.storage import PROJECT_ROOT, task_dir
from serve import MAX_BODY

SLOW_APP = """
import sys, time
from lib.web.context import admission
from lib.web.server import Drain, make_server
from serve import create_app, log_state
app = create_app(max_inflight=8)

@app.get("/slow")
def slow():
    with admission().accepted():
        time.sleep(8)
        return b"x" * 5_000_000

server = make_server(app, "127.0.0.1", int(sys.argv[1]), 8)
with app.app_context():
    Drain(server, admission()).install()
    import logging
    logging.basicConfig(level=logging.INFO)
    log_state(f"http://127.0.0.1:{sys.argv[1]}")
server.run()
"""


@pytest.fixture
def photo(tiny_folder):
    return next((tiny_folder / "Bag").glob("*.png")).read_bytes()


UNFINISHED_APP = (
    SLOW_APP.replace("time.sleep(8)", "time.sleep(60)")
    .replace(
        "    Drain(server, admission()).install()", "    drain = Drain(server, admission(), 0.5)\n    drain.install()"
    )
    .replace("server.run()", "server.run()\nsys.exit(not drain.complete)")
)


def test_work_that_does_not_end_in_time_is_given_up_and_told_by_the_exit_status(tiny_run, shared_environment):
    with running(shared_environment, code=UNFINISHED_APP, status=1) as service, ThreadPoolExecutor(1) as pool:
        lost = pool.submit(ask, service, path="/slow")
        time.sleep(1)
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            lost.result()
        service.process.wait(timeout=30)
    assert any("some requests were not finished" in line for line in service.lines)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_ends_in_good_order_on_whatever_address_it_listens(tiny_run, shared_environment, host):
    with running(shared_environment, "--host", host) as service:  # and asks for exit status 0
        connection = http.client.HTTPConnection(host, service.port, timeout=10)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()


BUSY_APP = """
import sys, threading, time
from lib.web.context import admission
from lib.web.server import make_server, Drain
from serve import create_app, log_state
app = create_app(max_inflight=1)

@app.post("/models/who")
@app.post("/who")
def who():
    return {"loop": threading.get_ident() == admission().loop}

@app.post("/late")
def late():
    time.sleep(2)
    with admission().accepted():
        return {"accepted": True}

@app.post("/busy")
def busy():
    with admission().accepted():
        return app.test_client().post("/who").json

server = make_server(app, "127.0.0.1", int(sys.argv[1]), 1)
with app.app_context():
    Drain(server, admission()).install()
    import logging
    logging.basicConfig(level=logging.INFO)
    log_state("")
    if sys.argv[2:]:
        held = admission().accepted()
        holder = threading.Thread(target=held.__enter__)
        holder.start()
        holder.join()
server.run()
"""


def test_the_loop_answers_only_what_is_sent_away(tiny_run, shared_environment):
    with running(shared_environment, code=BUSY_APP) as service:
        assert json.loads(ask(service, "POST", "/who")[2]) == {"loop": False}
    full = BUSY_APP.replace("sys.argv[2:]", "True")
    with running(shared_environment, code=full) as service:
        assert json.loads(ask(service, "POST", "/who")[2]) == {"loop": True}
        assert json.loads(ask(service, "POST", "/models/who")[2]) == {"loop": False}
        status, headers, _ = ask(service, "POST", "/busy")
        assert (status, headers["Retry-After"]) == (503, "1")
        for request in (b"POST /who HTTP/1.1\r\nBad Header\r\n\r\n", b"post /who HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
                connection.sendall(request)
                assert connection.recv(1000).startswith(b"HTTP/1.0 400")
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall(2 * b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            told = b""
            while told.count(b'"loop"') < 2:
                told += connection.recv(65536)
            assert told.index(b'"loop":true') < told.index(b'"loop":false')  # one at a time in the loop


def test_what_waits_for_a_thread_has_its_place_and_is_never_sent_away_later(tiny_run, shared_environment):
    with running(shared_environment, code=BUSY_APP) as service, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, service, "POST", "/late")
        time.sleep(1)  # it is with a thread, and not accepted yet
        assert json.loads(ask(service, "POST", "/who")[2]) == {"loop": True}
        assert json.loads(first.result()[2]) == {"accepted": True}
        for _ in range(2):  # what is never accepted gives its place back too
            time.sleep(0.2)  # its answer comes a moment before its place is free
            assert json.loads(ask(service, "POST", "/who")[2]) == {"loop": False}


def test_the_loop_sends_away_in_the_words_of_the_app(tiny_run, shared_environment, photo):
    id = {"X-Request-ID": str(uuid.uuid4()), "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    with running(shared_environment, code=BUSY_APP.replace("sys.argv[2:]", "True")) as service:
        status, by_loop, told = ask(service, "POST", "/predict", photo, id)
        in_app, by_app, told_by_app = ask(service, "POST", "/predict", photo, id | {"Origin": service.address})
        assert status == in_app == 503
        assert json.loads(told) == json.loads(told_by_app)
        assert {name: value for name, value in by_loop.items() if name != "Date"} == {
            name: value for name, value in by_app.items() if name != "Date"
        }
        metrics = ask(service, "GET", "/metrics")[2].decode()
        assert 'http_requests_total{method="POST",route="/predict",status="503"} 2.0' in metrics
        assert "requests_refused_total 2.0" in metrics
    lines = [line for line in service.lines if "POST /predict 503" in line]
    assert len(lines) == 2


def test_what_was_accepted_is_answered_in_full_and_what_comes_after_is_sent_away(tiny_run, shared_environment, photo):
    with running(shared_environment, code=SLOW_APP) as service, ThreadPoolExecutor(6) as pool:
        accepted = [pool.submit(ask, service, path="/slow") for _ in range(6)]
        time.sleep(1)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for path, method, body in (("/readyz", "GET", None), ("/predict", "POST", photo), ("/slow", "GET", None)):
            status, headers, _ = ask(service, method, path, body)
            assert (path, status, headers["Retry-After"]) == (path, 503, "1")
        assert ask(service)[0] == 200
        assert [(status, len(body)) for status, _, body in (one.result() for one in accepted)] == [(200, 5_000_000)] * 6
        assert service.process.wait(timeout=10) == 0


def test_a_client_that_reads_slowly_gets_all_of_its_answer(tiny_run, shared_environment):
    with running(shared_environment, code=SLOW_APP) as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        client.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        time.sleep(1)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(4)
        received = 0
        while data := client.recv(65536):
            received += len(data)
        client.close()
        assert received > 5_000_000
        assert service.process.wait(timeout=10) == 0


def test_a_second_signal_ends_it_at_once(tiny_run, shared_environment):
    def wait_in_vain(service):
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(service, path="/slow")

    with running(shared_environment, code=SLOW_APP, status=128 + signal.SIGTERM) as service:
        client = threading.Thread(target=wait_in_vain, args=[service])
        client.start()
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert service.process.poll() is None
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(timeout=2)
        client.join()


def test_under_overload_there_are_answers_and_503_and_nothing_else(tiny_run, shared_environment, photo):
    body, headers = form([photo] * 16)
    with running(shared_environment, "--max-inflight", "2") as service:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: ask(service, "POST", "/predict", body, headers), range(120)))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 503}
        assert all(headers["Retry-After"] == "1" for status, headers, _ in answers if status == 503)
        assert ask(service, "POST", "/predict", photo)[0] == 200


def test_slow_clients_take_no_thread_and_are_cut(tiny_run, shared_environment, photo):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    with running(shared_environment) as service:
        slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(300)]
        for number, client in enumerate(slow):
            client.sendall(head if number % 2 else head + b"Content-Length: 1000\r\n\r\nhalf")
        for _ in range(5):
            assert ask(service, "POST", "/predict", photo)[0] == 200
        until = time.monotonic() + 30  # they are cut after 10 s, looked for each 5 s
        for client in slow:
            client.settimeout(max(0.1, until - time.monotonic()))
            assert client.recv(1000) == b"" or client.recv(1000) == b""
            client.close()


def test_a_thousand_requests_past_their_deadline_leave_no_thread(tiny_run, shared_environment, photo):
    def threads(service):
        return len(os.listdir(f"/proc/{service.process.pid}/task"))

    with running(shared_environment, "--deadline", "1e-9") as service, ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: ask(service, "POST", "/predict", photo)[0], range(100)))
        before = threads(service)
        statuses += pool.map(lambda _: ask(service, "POST", "/predict", photo)[0], range(900))
        assert threads(service) == before
        assert set(statuses) == {504}
        assert ask(service)[0] == 200


def sent(server, *request, **options):
    """The status of one request."""
    connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request(*request, **options)
        return connection.getresponse().status


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("way", ["plain", "chunked", "multipart"])
def test_a_body_is_read_up_to_the_limit_and_not_a_byte_beyond(server, way, extra):
    data = b"x" * (MAX_BODY + extra)
    if way == "multipart":
        status = sent(server, "POST", "/predict", *form([data[len(form([b""])[0]) :]]))
    elif way == "chunked":
        chunked = {"Transfer-Encoding": "chunked"}
        status = sent(server, "POST", "/predict", io.BytesIO(data), chunked, encode_chunked=True)
    else:
        status = sent(server, "POST", "/predict", data)
    assert status == (413 if extra > 0 else 415)  # 415: read in full, and no image


def test_an_empty_body_is_400(server):
    assert sent(server, "POST", "/predict", b"") == 400
    chunked = {"Transfer-Encoding": "chunked"}
    assert sent(server, "POST", "/predict", io.BytesIO(b""), chunked, encode_chunked=True) == 400


def test_large_headers_and_too_many_parts_are_refused(server):
    assert sent(server, "GET", "/livez", headers={"X-Large": "x" * 300_000}) == 431
    assert sent(server, "POST", "/predict", *form([b"x"] * 1001)) == 413


def test_twenty_new_models_under_eight_clients_and_no_answer_is_lost_or_mixed(
    tiny_task, shared_environment, tmp_path, monkeypatch, photo
):
    shutil.copytree(task_dir(tiny_task).parent, tmp_path / "copy")
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "copy"))
    first = registry.champion(tiny_task)
    other = shutil.copytree(first.folder, first.folder.with_name("2999-other"))
    shutil.copy(other / registry.RUNNER_UP_FILE, other / registry.MODEL_FILE)
    _write_checksums(other, list(registry.read_checksums(other)))
    names = (first.name, "2999-other")
    expected = {
        name: Predictor.from_version(registry.verify(tiny_task, name)).predict([photo])[0].probability for name in names
    }
    assert len(set(expected.values())) == 2
    stopped, answers = threading.Event(), []

    def client(service):
        while not stopped.is_set():
            answers.append(ask(service, "POST", "/predict", photo))

    environment = shared_environment | {"ARTIFACTS_DIR": str(tmp_path / "copy")}
    with running(environment) as service, ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, service) for _ in range(8)]
        try:
            for number in range(20):
                registry.promote(tiny_task, names[(number + 1) % 2])
                wanted = names[(number + 1) % 2]
                until = time.monotonic() + 30
                while json.loads(ask(service, path="/readyz")[2])["tasks"][0]["model"] != wanted:
                    assert time.monotonic() < until
                    time.sleep(0.05)
        finally:
            stopped.set()
        for one in clients:
            one.result()
    assert {status for status, _, _ in answers} == {200}
    seen = dict.fromkeys(names, 0)
    for _, _, body in answers:
        found = json.loads(body)
        seen[found["model"]] += 1
        assert found["predictions"][0]["probability"] == pytest.approx(expected[found["model"]], abs=1e-5)
    assert min(seen.values()) > 0


FULL_DISK = """
mount -t tmpfs -o size=700k none /mnt
export PRODUCTION_DIR=/mnt/production
exec {python} serve.py --port {port}
"""


def test_a_full_disk_stops_no_prediction_and_is_told(tiny_run, shared_environment, tiny_folder):
    photos = [path.read_bytes() for path in sorted(tiny_folder.glob("*/*.png"))]
    body, headers = form(photos[:60])
    port = free_port()
    script = FULL_DISK.format(python=sys.executable, port=port)
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=shared_environment, stderr=subprocess.PIPE, text=True)
    try:
        while "Ready on" not in process.stderr.readline():
            assert process.poll() is None
        service = SimpleNamespace(port=port)
        answers = [ask(service, "POST", "/predict", body, headers) for _ in range(8)]
        assert {status for status, _, _ in answers} == {200}
        assert json.loads(answers[-1][2])["logged"] is False
        state = json.loads(ask(service, path="/readyz")[2])["tasks"][0]
        assert "full" in state["log"] or "No space" in state["log"]
    finally:
        process.terminate()
        process.wait(timeout=40)
        process.stderr.close()


def test_no_acknowledged_feedback_is_lost_when_the_service_is_killed(tiny_run, shared_environment, tmp_path, photo):
    environment = shared_environment | {"PRODUCTION_DIR": str(tmp_path / "production")}
    predicted, given = [], []

    def client(service):
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                status, _, body = ask(service, "POST", "/predict", photo)
                answer = json.loads(body)
                assert (status, answer["logged"]) == (200, True)
                predicted.append(answer["predictions"][0]["id"])
                sent = json.dumps({"id": predicted[-1], "label": "Trouser"})
                status, _, _ = ask(service, "POST", "/feedback", sent, {"Content-Type": "application/json"})
                assert status == 201
                given.append(json.loads(sent)["id"])

    for _ in range(3):
        with running(environment, status=-signal.SIGKILL) as service, ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, service) for _ in range(4)]
            time.sleep(1.5)
            service.process.kill()
            for one in clients:
                one.result()
    assert len(given) > 50
    connection = sqlite3.connect(tmp_path / "production" / "tiny" / "production.db")
    assert set(predicted) <= {name for (name,) in connection.execute("SELECT id FROM predictions")}
    assert set(given) <= {name for (name,) in connection.execute("SELECT prediction FROM feedback")}
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
