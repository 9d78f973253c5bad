import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from lib import storage
from lib.errors import ArtifactError, LockedError, ParameterError


def test_relative_paths_start_at_the_project_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert storage.project_path("data/sample") == storage.PROJECT_ROOT / "data" / "sample"
    assert storage.project_path("/elsewhere") == storage.project_path("/elsewhere").absolute()


@pytest.mark.parametrize(
    ("text", "name"), [("birds", "birds"), ("my birds & co", "my-birds-co"), ("Vögel 鳥", "Vögel-鳥"), ("../x", "x")]
)
def test_task_names_are_safe_folder_names(text, name):
    assert storage.task_name(text) == name


@pytest.mark.parametrize("text", ["", "..", "///", "embeddings", "backbones"])
def test_names_that_cannot_be_a_task_are_refused(text):
    with pytest.raises(ParameterError, match="--task"):
        storage.task_name(text)


def test_a_task_cannot_lead_out_of_the_artifacts():
    with pytest.raises(ParameterError, match="characters"):
        storage.task_dir("../outside")


def test_a_failed_write_leaves_the_old_file_and_no_stray(tmp_path):
    path = tmp_path / "a.json"
    storage.write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(path, {"new": float("nan")})
    assert storage.read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_write_is_synced_before_it_replaces_the_old_file_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    path = tmp_path / "a.txt"
    monkeypatch.setattr("pathlib.Path.replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    storage.write_text(path, "x")
    assert events[1:] == ["rename", str(tmp_path)]
    assert "/.tmp-" in events[0]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fail_halfway():
        with storage.atomic_dir(tmp_path / "version") as folder:
            (folder / "half").write_text("x")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with storage.atomic_dir(tmp_path / "version") as folder:
        (folder / "whole").write_text("x")
    assert [path.name for path in (tmp_path / "version").iterdir()] == ["whole"]


def test_strays_of_dead_processes_are_swept_and_those_of_living_ones_kept(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    alive = storage.temporary_prefix() + "alive"
    dead = alive.replace(f"-{os.getpid()}-", f"-{child.pid}-")
    elsewhere, forgotten = (f".tmp-{child.pid}-otherhost-{name}" for name in ("new", "old"))
    for name in (alive, dead, elsewhere, forgotten):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / forgotten, (0, 0))
    storage.sweep_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {alive, elsewhere}


def test_tables_come_back_as_they_were(tmp_path):
    table = pd.DataFrame({"path": ['a,"b"\nc', "=1+1", "NA"], "n": [1, 2, 3]})
    for name in ("t.csv", "t.parquet"):
        storage.write_table(tmp_path / name, table)
        assert storage.read_table(tmp_path / name).to_dict() == table.to_dict()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damaged_json_says_which_file_and_what_to_do(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.json.*delete it"):
        storage.read_json(tmp_path / "a.json")


def test_a_missing_or_damaged_table_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match="missing"):
        storage.read_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(ArtifactError, match="damaged"):
        storage.read_table(tmp_path / "bad.parquet")


def test_json_hash_does_not_depend_on_the_order_of_keys():
    assert storage.sha256_json({"a": 1, "b": 2}) == storage.sha256_json({"b": 2, "a": 1})
    assert storage.sha256_json({"a": 1}) != storage.sha256_json({"a": 2})


def test_known_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert storage.sha256_bytes(b"abc") == storage.sha256_file(tmp_path / "abc") == expected


def test_home_folders_are_not_shown(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere/home")
    assert storage.display_path("/somewhere/home/photos") == "~/photos"
    assert storage.display_path(storage.PROJECT_ROOT / "data") == "data"


def test_the_lock_names_its_holder_and_ends_with_a_killed_process(tmp_path):
    path = tmp_path / "task" / ".lock"
    code = f"from lib import storage; from pathlib import Path; import time\nwith storage.lock(Path({str(path)!r})):\n"
    code += "    print('held', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=rf"process {child.pid}\b.*'task'"), storage.lock(path):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    time.sleep(0.05)
    with storage.lock(path):
        assert path.read_text() == str(os.getpid())
