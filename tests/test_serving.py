import json
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from lib import registry, serving
from lib.errors import ArtifactError, ParameterError, UnknownTaskError
from lib.serving import ServedTask, ServedTasks
from lib.storage import task_dir, write_json


@pytest.fixture
def versions(monkeypatch):
    """A registry of versions that are only names; those that begin with "bad" are damaged."""

    def champion(task):
        name = registry.deployment(task)["champion"]
        if name is None or name.startswith("bad"):
            raise ArtifactError(f"{name} is damaged")
        return SimpleNamespace(name=name)

    monkeypatch.setattr(serving.registry, "champion", champion)


def deploy(name, task="t"):
    write_json(task_dir(task) / registry.DEPLOYMENT_FILE, {"champion": name})


def load(version):
    """A predictor that knows its version only."""
    return SimpleNamespace(version=version, name=version.name)


def served(clock=lambda: 0.0):
    """A task of such predictors."""
    return ServedTask("t", load, clock)


def test_a_new_champion_takes_the_place_of_the_old_one(versions):
    deploy("v1")
    task = served()
    first = task.predictor
    assert first.name == "v1"
    task.follow()
    assert task.predictor is first
    deploy("v2")
    assert task.predictor is first
    task.follow()
    assert (task.predictor.name, task.n_loads, task.problem) == ("v2", 2, "")


def test_a_damaged_candidate_leaves_the_old_one_serving_and_says_why(versions):
    deploy("v1")
    task = served()
    assert task.predictor.name == "v1"
    deploy("bad2")
    task.follow()
    assert (task.predictor.name, task.problem, task.n_failures) == ("v1", "bad2 is damaged", 1)
    deploy("v3")
    task.follow()
    assert (task.predictor.name, task.problem) == ("v3", "")


def test_what_could_not_be_loaded_is_tried_again_after_a_while(versions):
    now = [0.0]
    deploy("bad")
    task = served(lambda: now[0])
    for _ in range(3):
        with pytest.raises(ArtifactError, match="bad is damaged"):
            _ = task.predictor
    assert task.n_failures == 1
    now[0] = serving.RETRY
    task.follow()
    assert task.n_failures == 2


def test_a_model_that_comes_later_is_found(versions):
    task = served()
    with pytest.raises(ArtifactError):
        _ = task.predictor
    deploy("v1")
    assert task.predictor.name == "v1"


def test_a_lost_deployment_leaves_the_model_serving(versions):
    deploy("v1")
    task = served()
    assert task.predictor.name == "v1"
    (task_dir("t") / registry.DEPLOYMENT_FILE).unlink()
    task.follow()
    assert task.predictor.name == "v1"
    assert task.problem


def test_the_only_task_needs_no_name_and_others_do_not_exist(versions):
    tasks = ServedTasks()
    with pytest.raises(ArtifactError, match="there is none yet"):
        tasks.get()
    deploy("v1")
    assert tasks.get().name == "t"
    assert tasks.get("t") is tasks.get()
    with pytest.raises(UnknownTaskError, match="no task 'birds' here; the tasks are t"):
        tasks.get("birds")
    deploy("v1", "birds")
    assert [task.name for task in tasks.all()] == ["birds", "t"]
    with pytest.raises(ArtifactError, match="several"):
        tasks.get()
    assert ServedTasks("t").get().name == "t"
    with pytest.raises(UnknownTaskError):
        ServedTasks("t").get("birds")
    with pytest.raises(ParameterError):
        ServedTasks("../t")


def test_versions_on_one_backbone_share_its_network(tiny_task):
    tasks = ServedTasks(tiny_task)
    version = registry.champion(tiny_task)
    first, second = tasks.load(version), tasks.load(version)
    assert first is not second
    assert first.encoder is second.encoder


def test_the_watch_follows_until_it_is_stopped(versions, monkeypatch):
    monkeypatch.setattr(serving, "POLL", 0.01)
    deploy("v1")
    tasks, stopped = ServedTasks(), threading.Event()
    monkeypatch.setattr(tasks, "load", load)
    assert tasks.get().predictor.name == "v1"
    watch = threading.Thread(target=tasks.watch, args=[stopped])
    watch.start()
    deploy("v2")
    for _ in range(500):
        if tasks.get().predictor.name == "v2":
            break
        stopped.wait(0.01)
    stopped.set()
    watch.join(timeout=10)
    assert not watch.is_alive()
    assert tasks.get().predictor.name == "v2"


@pytest.mark.parametrize(
    "content", ["[]", "null", '"x"', '{"champion": 5}', '{"previous": null}', "[" * 100_000, "garbage"]
)
def test_a_deployment_of_the_wrong_shape_is_told_and_the_old_model_serves(versions, content):
    deploy("v1")
    task = served()
    assert task.predictor.name == "v1"
    (task_dir("t") / registry.DEPLOYMENT_FILE).write_text(content)
    task.follow()
    assert task.predictor.name == "v1"
    assert "deployment.json" in task.problem
    assert task.n_failures == 1


def test_one_broken_task_does_not_keep_others_from_following(versions, monkeypatch):
    monkeypatch.setattr(serving, "POLL", 0.01)
    deploy("v1", "broken")
    deploy("v1", "whole")
    tasks, stopped = ServedTasks(), threading.Event()

    def load_one(version):
        if version.name == "v1":
            raise RuntimeError("our own mistake")
        return load(version)

    monkeypatch.setattr(tasks, "load", load_one)
    watch = threading.Thread(target=tasks.watch, args=[stopped])
    watch.start()
    deploy("v2", "whole")
    for _ in range(500):
        if tasks.get("whole").answering == "v2":
            break
        stopped.wait(0.01)
    stopped.set()
    watch.join(timeout=10)
    assert tasks.get("whole").answering == "v2"


@pytest.mark.parametrize(
    "file", [registry.MODEL_FILE, registry.REFERENCE_FILE, registry.CARD_FILE, registry.METRICS_FILE, "SHA256SUMS"]
)
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_whatever_is_damaged_in_a_new_version_the_old_one_serves(tiny_task, tmp_path, monkeypatch, file, damage):
    shutil.copytree(task_dir(tiny_task).parent, tmp_path / "copy")
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "copy"))
    old = registry.champion(tiny_task)
    task = ServedTasks(tiny_task).get()
    assert task.predictor.version.name == old.name
    new = shutil.copytree(old.folder, old.folder.with_name("2999-copy"))
    path = new / file
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    deploy("2999-copy", tiny_task)
    task.follow()
    assert task.predictor.version.name == old.name
    assert "2999-copy" in task.problem


def test_a_model_of_nan_weights_or_another_list_of_classes_does_not_serve(tiny_task):
    tasks, version = ServedTasks(tiny_task), registry.champion(tiny_task)
    predictor = tasks.load(version)
    estimator = predictor.model.calibrated_classifiers_[0].estimator
    weights = estimator[-1]
    broken = weights.coef_ if hasattr(weights, "coef_") else weights.coefs_[0]
    broken[:] = np.nan
    with pytest.raises(ArtifactError, match="gives no probabilities"):
        serving.warm(predictor)
    fewer = tasks.load(version)
    fewer.classes = fewer.classes[:-1]
    with pytest.raises(ArtifactError, match="its card names"):
        serving.warm(fewer)
    assert json.loads((version.folder / "card.json").read_text())["classes"]


def test_what_a_lone_client_and_what_several_need_is_open_before_the_first_asks(tiny_task, monkeypatch):
    encoder = ServedTasks(tiny_task).get().predictor.encoder
    monkeypatch.setattr(encoder, "_open", None)
    monkeypatch.setattr(encoder.with_threads(1), "_open", None)
    pixels = np.zeros((1, 3, 224, 224), np.float32)
    assert encoder.encode(pixels).shape == encoder.with_threads(1).encode(pixels).shape == (1, encoder.dim)
