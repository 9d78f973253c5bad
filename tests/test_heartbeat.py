import os
import tempfile
import threading
from time import time

import pytest

from lib import heartbeat
from lib.learning import worker
from lib.monitoring import reporter


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_beat_is_asked_for_by_its_age(capsys):
    assert heartbeat.main([]) == 1
    assert capsys.readouterr().err == "It never beat.\n"
    heartbeat.beat()
    assert heartbeat.main([]) == 0
    os.utime(heartbeat._path(), (time() - 100,) * 2)
    assert heartbeat.main(["--within", "150"]) == 0
    assert heartbeat.main(["--within", "50"]) == 1
    assert "It last beat 100 s ago." in capsys.readouterr().err


@pytest.mark.parametrize(
    "watch",
    [
        lambda tasks, stopped: reporter.watch(tasks, {}, stopped, 60),
        lambda tasks, stopped: worker.watch(tasks, None, stopped, 60),
    ],
)
def test_both_workers_beat_when_they_begin_a_turn(watch):
    stopped, beats = threading.Event(), []

    def tasks():
        beats.append(heartbeat.age() is not None)
        stopped.set()
        return []

    watch(tasks, stopped)
    assert beats == [True]
