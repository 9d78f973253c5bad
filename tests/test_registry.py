import json
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from lib import registry
from lib.classifiers import Spec
from lib.errors import ArtifactError, LockedError
from lib.registry import champions, store
from lib.registry.__main__ import main
from lib.storage import lock, task_dir
from lib.training import fit_calibrated

LABELS = np.repeat([0, 1], 20)
VECTORS = (np.random.default_rng(0).standard_normal((40, 8)) + 2 * LABELS[:, None]).astype(np.float32)
FOLDS = [(np.arange(40)[np.arange(40) % 2 != k], np.arange(40)[np.arange(40) % 2 == k]) for k in range(2)]
SPECS = {
    "logistic": Spec("logistic_regression", C=0.1),
    "root and PCA": Spec("logistic_regression", root=True, n_components=4, C=0.1),
    "mlp": Spec("mlp", root=True, n_components=4, hidden=(8,), alpha=1.0),
}


def fitted(name="logistic"):
    """A small fitted, calibrated classifier."""
    return fit_calibrated(SPECS[name], VECTORS, LABELS, FOLDS, seed=0)


def saved(task="t", **card):
    """A saved, not evaluated version."""
    models = {registry.MODEL_FILE: fitted(), registry.RUNNER_UP_FILE: fitted("mlp")}
    return registry.save(task, models, {"classes": ["a", "b"], "model": "LR", **card}, {"selection": {}})


def evaluated(task="t"):
    """A saved, evaluated version."""
    version = saved(task)
    registry.add_evaluation(
        version, {**version.metrics, "test": {"n": 3, "accuracy": {"value": 2 / 3}}}, lambda path: path.write_text("p")
    )
    return version


@pytest.mark.parametrize("name", SPECS)
def test_a_loaded_model_gives_the_same_probabilities_bit_for_bit(name):
    model = fitted(name)
    version = registry.save(
        "t",
        {registry.MODEL_FILE: model},
        {},
        {},
        {registry.REFERENCE_FILE: lambda path: path.write_text("training images")},
    )
    assert set(registry.read_checksums(version.folder)) == {*registry.REQUIRED_FILES, registry.REFERENCE_FILE}
    loaded = registry.verify("t", version.name).load()
    np.testing.assert_array_equal(loaded.predict_proba(VECTORS), model.predict_proba(VECTORS))


def test_a_version_lists_its_files_so_that_sha256sum_agrees():
    version = evaluated()
    result = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=version.folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert set(registry.read_checksums(version.folder)) == {path.name for path in version.folder.iterdir()} - {
        "SHA256SUMS"
    }


def test_versions_sort_by_time_and_the_newest_is_the_latest(monkeypatch):
    names = ["2026-11-24T00-00-00Z-aaaa", "2026-11-23T23-59-59Z-ffff"]
    monkeypatch.setattr(store, "new_version_name", iter(names).__next__)
    assert [saved().name for _ in names] == names
    assert registry.versions("t") == names[::-1]
    assert registry.latest("t").name == registry.find("t", "").name == names[0]
    assert registry.find("t", names[1]).name == names[1]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
@pytest.mark.parametrize("file", ["model.skops", "card.json", "metrics.json"])
def test_a_damaged_version_is_refused(file, damage):
    version = evaluated()
    path = version.folder / file
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    if damage == "remove":
        path.unlink()
    with pytest.raises(ArtifactError, match=rf"damaged \({file}\)"):
        registry.verify("t", version.name)
    with pytest.raises(ArtifactError, match="damaged"):
        registry.promote("t", version.name)
    assert registry.deployment("t")["champion"] is None


def test_a_version_without_checksums_is_no_version():
    version = saved()
    (version.folder / "SHA256SUMS").unlink()
    with pytest.raises(ArtifactError, match="damaged"):
        registry.verify("t", version.name)


@pytest.mark.parametrize("name", ["nothing", "../t/models", "..", ""])
def test_a_name_that_is_no_version_is_refused(name):
    saved()
    with pytest.raises(ArtifactError, match="has no version"):
        registry.verify("t", name)


def test_only_an_evaluated_version_can_serve():
    version = saved()
    with pytest.raises(ArtifactError, match="not been evaluated"):
        registry.promote("t", version.name)
    registry.add_evaluation(version, {"test": {}}, lambda path: path.write_text("p"))
    registry.promote("t", version.name)
    assert registry.champion("t").name == version.name
    pointer = json.loads((task_dir("t") / "deployment.json").read_text())
    assert pointer.pop("history")[0]["version"] == version.name
    assert pointer == {
        "champion": version.name,
        "challenger": None,
        "challenger_share": 0.0,
        "experiment": None,
        "previous": [],
    }


def test_without_a_promotion_there_is_no_champion():
    with pytest.raises(ArtifactError, match=r"run \./run_pipeline\.sh --task t"):
        registry.champion("t")
    with pytest.raises(ArtifactError, match="no model yet"):
        registry.latest("t")


KILLED = """
import os, signal, sys
from lib import registry, storage
version = registry.verify("t", registry.versions("t")[-1])
calls = 0
def counted(function):
    def wrapper(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapper
os.fsync = counted(os.fsync)
storage.Path.replace = counted(storage.Path.replace)
registry.add_evaluation(version, {**version.metrics, "test": {"n": 4}}, lambda path: storage.write_text(path, "new"))
registry.promote("t", version.name)
"""


def test_killed_at_any_step_of_an_evaluation_the_version_stays_whole():
    version = evaluated()
    ends = set()
    for step in range(1, 24):
        result = subprocess.run([sys.executable, "-c", KILLED, str(step)], capture_output=True, text=True)
        assert result.returncode in (-signal.SIGKILL, 0), result.stderr
        ends.add(result.returncode)
        assert registry.verify("t", version.name).load() is not None
    assert ends == {-signal.SIGKILL, 0}
    assert registry.champion("t").metrics["test"] == {"n": 4}


def test_a_model_that_would_run_code_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    version = saved()
    path = version.folder / registry.MODEL_FILE
    schema = json.loads(zipfile.ZipFile(path).read("schema.json"))
    schema |= {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "ObjectNode",
        "content": {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"touch ran"'},
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError):
        version.load()
    assert not (tmp_path / "ran").exists()


def test_loading_a_model_does_not_import_torch():
    version = saved()
    code = f"import sys; from lib import registry; registry.verify('t', {version.name!r}).load()"
    code += "; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_nothing_is_left_of_a_save_that_failed():
    with pytest.raises(ValueError, match="JSON"):
        registry.save("t", {registry.MODEL_FILE: fitted()}, {"bad": float("nan")}, {})
    assert registry.versions("t") == []
    assert list(registry.models_dir("t").iterdir()) == []


def test_rollback_goes_back_champion_by_champion_past_damaged_ones():
    first, second, third, fourth = (evaluated() for _ in range(4))
    for version in (first, second, third, fourth, fourth):
        registry.promote("t", version.name)
    assert registry.deployment("t")["previous"] == [first.name, second.name, third.name]
    (third.folder / "model.skops").write_bytes(b"damaged")
    assert registry.rollback("t") == second.name
    assert registry.champion("t").name == second.name
    assert registry.rollback("t") == first.name
    with pytest.raises(ArtifactError, match="no earlier champion"):
        registry.rollback("t")
    assert registry.champion("t").name == first.name


def test_a_champion_that_comes_back_is_named_once():
    first, second = evaluated(), evaluated()
    for version in (first, second, first):
        registry.promote("t", version.name)
    assert registry.deployment("t")["previous"] == [second.name]


def test_two_processes_do_not_change_the_pointer_at_once():
    version = evaluated()
    with lock(task_dir("t") / champions.LOCK_FILE), pytest.raises(LockedError):
        registry.promote("t", version.name)
    registry.promote("t", version.name)


def test_the_command_line_lists_promotes_and_goes_back(capsys):
    first, second = evaluated(), evaluated()
    for arguments, champion in (
        (["promote", first.name], first),
        (["promote", second.name], second),
        (["rollback"], first),
    ):
        assert main([arguments[0], "--task", "t", *arguments[1:]]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines if line.startswith("*")] == [champion.name]
        assert "0.667, n = 3" in lines[0]


def test_the_command_line_says_what_cannot_be_done(capsys):
    assert main(["rollback", "--task", "t"]) == 1
    assert "no earlier champion" in capsys.readouterr().err
    assert main(["list", "--task", "../t"]) == 2
    assert "characters" in capsys.readouterr().err
    assert main(["list", "--task", "t"]) == 0
    assert "has no version; run" in capsys.readouterr().out
    version = evaluated()
    with lock(task_dir("t") / champions.LOCK_FILE):
        assert main(["promote", "--task", "t", version.name]) == 3


def test_a_challenger_waits_until_it_is_promoted_or_dismissed():
    first, second, third = evaluated(), evaluated(), evaluated()
    registry.promote("t", first.name)
    registry.challenge("t", second.name, by="me", why="it passed")
    assert registry.deployment("t")["challenger"] == second.name
    registry.promote("t", third.name)  # another one
    assert registry.deployment("t")["challenger"] == second.name
    registry.challenge("t", None, by="me")
    assert registry.deployment("t")["challenger"] is None
    registry.challenge("t", second.name)
    registry.promote("t", second.name, by="you")
    pointer = registry.deployment("t")
    assert (pointer["champion"], pointer["challenger"]) == (second.name, None)
    assert [(entry["action"], entry["version"], entry["by"]) for entry in pointer["history"]] == [
        ("promoted", first.name, ""), ("challenger", second.name, "me"), ("promoted", third.name, ""),
        ("dismissed", second.name, "me"), ("challenger", second.name, ""), ("promoted", second.name, "you"),
    ]  # fmt: skip


def test_only_an_evaluated_version_may_challenge():
    with pytest.raises(ArtifactError, match="not been evaluated"):
        registry.challenge("t", saved().name)


def test_the_newest_versions_and_those_in_use_are_kept():
    versions = [evaluated() for _ in range(6)]
    names = [version.name for version in versions]
    for place in (0, 1, 2):
        registry.promote("t", names[place])
    registry.challenge("t", names[3])
    kept = sorted({names[1], names[2], names[3], sorted(names)[-1]})  # the newest one is also what 03 left
    gone = registry.prune("t", 1)
    assert registry.versions("t") == kept
    assert sorted(gone + kept) == sorted(names)
    assert [path.name for path in registry.models_dir("t").iterdir() if path.name.startswith(".")] == []
    assert registry.rollback("t") == names[1]


def test_an_update_is_no_outcome_of_the_training_stage():
    trained = evaluated()
    update = saved(lineage={"parent": trained.name})
    update.folder.rename(update.folder.with_name("2999-update"))
    assert registry.versions("t")[-1] == "2999-update"
    assert registry.latest("t").name == registry.find("t", "").name == trained.name
    assert registry.find("t", "2999-update").lineage
    registry.prune("t", 1)
    assert registry.latest("t").name == trained.name


def test_what_tells_two_versions_apart():
    first, second = (
        saved(classes=["a", "b"]),
        saved(classes=["a", "b", "c"], lineage={"parent": "p", "added": {"c": 5}}),
    )
    rows = {what: (one, other) for what, one, other in registry.differences(first, second)}
    assert rows["classes"] == ("a, b", "a, b, c")
    assert rows["parent"] == ("", "p")
    assert rows["added"] == ("", "c 5")
    assert "model" not in rows


def test_the_command_line_tells_versions_apart_and_who_decided(capsys):
    first, second = evaluated(), evaluated()
    assert main(["promote", "--task", "t", first.name, "--by", "Ada", "--why", "a try"]) == 0
    assert registry.deployment("t")["history"][-1] | {"time": ""} == {
        "action": "promoted", "version": first.name, "by": "Ada", "why": "a try", "time": "",
    }  # fmt: skip
    registry.challenge("t", second.name)
    assert main(["list", "--task", "t"]) == 0
    assert f"? {second.name}" in capsys.readouterr().out
    assert main(["diff", "--task", "t", first.name, second.name]) == 0
    assert main(["diff", "--task", "t", first.name, "nothing"]) == 1


def test_a_damaged_pointer_is_written_anew_by_a_promotion():
    version = evaluated()
    path = task_dir("t") / registry.DEPLOYMENT_FILE
    path.write_text('{"champion": 5}')
    with pytest.raises(ArtifactError, match="promote one to write it anew"):
        registry.deployment("t")
    registry.promote("t", version.name)
    assert registry.champion("t").name == version.name


def test_checksums_that_are_no_text_are_damage():
    version = saved()
    (version.folder / "SHA256SUMS").write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(ArtifactError, match="damaged"):
        registry.verify("t", version.name)


def with_backbone(task="t"):
    """A promoted version whose backbone is there."""
    card = {"backbone": {"fingerprint": "f", "export": "lite"}}
    version = saved(task, **card)
    registry.add_evaluation(
        version, {**version.metrics, "test": {"n": 3, "accuracy": {"value": 2 / 3}}}, lambda path: path.write_text("p")
    )
    registry.promote(task, version.name)
    folder = task_dir(task).parent / "backbones" / "lite"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backbone.onnx").write_bytes(b"network")
    return version


def test_an_export_is_what_another_host_needs_and_no_more(tmp_path, monkeypatch, capsys):
    first, other = with_backbone(), with_backbone("birds")
    with_backbone()  # an earlier and a later version: only the champion goes
    registry.promote("t", first.name)
    for task in ("t", "birds"):
        assert main(["export", "--task", task, str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "model" / "t")
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "model"))
    assert registry.champion("t").name == first.name
    assert registry.versions("t") == [first.name]
    assert registry.champion("birds").name == other.name
    assert registry.deployment("t")["history"] == []
    assert (tmp_path / "model" / "backbones" / "lite" / "backbone.onnx").read_bytes() == b"network"


def test_an_export_overwrites_nothing_and_needs_the_backbone(tmp_path, capsys):
    version = with_backbone()
    assert main(["export", "--task", "t", str(tmp_path / "model")]) == 0
    assert main(["export", "--task", "t", str(tmp_path / "model")]) == 1
    assert "exists; remove it" in capsys.readouterr().err
    (task_dir("t").parent / "backbones" / "lite").rename(tmp_path / "elsewhere")
    assert main(["export", "--task", "t", str(tmp_path / "other")]) == 1
    assert "is missing; run ./run_pipeline.sh --task t" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    (version.folder / registry.MODEL_FILE).write_bytes(b"damaged")
    assert main(["export", "--task", "t", str(tmp_path / "other")]) == 1
