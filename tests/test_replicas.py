"""Two services on one PostgreSQL and one folder of artifacts behave as one."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from processes import ask, form, running
from sqlalchemy import select
from streams import copied_task, unseen

from lib import registry
from lib.production import connect_to, feedback, predictions

TOKEN = "a-token-of-enough-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
OTHER = "2999-new"
PATIENCE = 20  # seconds; docs/OPERATIONS.md has what was measured


@pytest.fixture
def environment(tiny_task, tmp_path, monkeypatch, shared_folder, shared_environment, postgres):
    """What both services share: artifacts with two versions, images that were sent, and a database."""
    monkeypatch.setenv("ARTIFACTS_DIR", str(shared_folder / "artifacts"))
    copied_task(tiny_task, tmp_path, monkeypatch)
    champion = registry.champion(tiny_task)
    shutil.copytree(champion.folder, champion.folder.with_name(OTHER))
    engine = connect_to(postgres)
    predictions.metadata.drop_all(engine)
    yield shared_environment | {
        "ARTIFACTS_DIR": str(tmp_path / "own artifacts"), "PRODUCTION_DIR": str(tmp_path / "production"),
        "LOG_URL": postgres, "SERVE_TOKEN": TOKEN,
    }  # fmt: skip
    predictions.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def replicas(environment):
    """Two running services."""
    with running(environment) as first, running(environment) as second:
        yield first, second


def told(service, method="GET", path="/livez", body=None, headers=None):
    """The JSON of an answer that must be one of success."""
    status, _, answer = ask(service, method, path, body, headers)
    assert status in (200, 201), answer
    return json.loads(answer)


def predict(service, data=None, **headers):
    """What a service answers to an image."""
    body, kind = form([data or unseen("Bag", 1)[0][0]])
    return told(service, "POST", "/predict", body, kind | headers)


def seen(service, version):
    """Wait until a service answers with a version, and say how long that took."""
    started = time.monotonic()
    while predict(service)["model"] != version:
        assert time.monotonic() - started < PATIENCE
        time.sleep(0.05)
    return time.monotonic() - started


def test_what_one_is_told_to_promote_the_other_answers_with(replicas):
    first, second = replicas
    old = predict(first)["model"]
    assert predict(second)["model"] == old
    assert told(first, "POST", f"/models/{OTHER}/promote", b"", BEARER)["champion"] == OTHER
    seen(second, OTHER)
    assert told(second, "POST", "/models/rollback", b"", BEARER)["champion"] == old
    seen(first, old)
    assert [told(one, path="/models")["answering"] for one in replicas] == [old, old]


def test_a_client_gets_the_same_arm_from_both(replicas):
    first, second = replicas
    begun = told(first, "PUT", "/experiment", json.dumps({"challenger": OTHER, "share": 0.5}), BEARER)
    while told(second, path="/experiment")["experiment"] != begun["experiment"]:
        time.sleep(0.05)
    started = time.monotonic()
    while {predict(second, **{"X-Client-ID": str(n)})["arm"] for n in range(12)} != {"champion", "challenger"}:
        assert time.monotonic() - started < PATIENCE
    arms = [[predict(one, **{"X-Client-ID": f"visitor {n}"})["arm"] for n in range(20)] for one in replicas]
    assert arms[0] == arms[1]
    assert set(arms[0]) == {"champion", "challenger"}
    verdicts = [told(one, path="/experiment")["verdict"] for one in replicas]
    assert verdicts[0] == verdicts[1]
    told(second, "DELETE", "/experiment", headers=BEARER)
    while told(first, path="/experiment")["experiment"] is not None:
        assert time.monotonic() - started < 2 * PATIENCE


def test_feedback_with_one_key_is_one_label_whoever_gets_it(replicas, postgres):
    id = predict(replicas[0])["predictions"][0]["id"]

    def correct(job):
        service, key = job
        body = json.dumps({"id": id, "label": "Trouser"})
        return told(service, "POST", "/feedback", body, {"Content-Type": "application/json", "Idempotency-Key": key})

    jobs = [(service, f"key {number}") for number in range(5) for service in replicas * 2]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(correct, jobs))
    assert {answer["id"] for answer in answers} == {id}
    engine = connect_to(postgres)
    with engine.connect() as connection:
        keys = connection.execute(select(feedback.c.idempotency_key).order_by(feedback.c.idempotency_key)).scalars()
        assert list(keys) == [f"key {number}" for number in range(5)]
    engine.dispose()


def test_when_one_is_killed_the_other_answers_and_nothing_acknowledged_is_lost(environment, postgres):
    with running(environment, status=-9) as first, running(environment) as second:
        ids = [predict(one)["predictions"][0]["id"] for one in (first, second) for _ in range(5)]
        first.process.kill()
        ids.append(predict(second)["predictions"][0]["id"])
        body = json.dumps({"id": ids[0], "label": "Bag"})
        told(second, "POST", "/feedback", body, {"Content-Type": "application/json"})
    engine = connect_to(postgres)
    with engine.connect() as connection:
        assert set(connection.execute(select(predictions.c.id)).scalars()) == set(ids)
        assert connection.execute(select(feedback.c.prediction)).scalars().all() == [ids[0]]
    engine.dispose()
