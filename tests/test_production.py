import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import free_port
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from lib.errors import FeedbackError, LogError, ParameterError
from lib.production import Logged, ProductionLog, ProductionLogs, connect_to, default_url, feedback, images, predictions
from lib.production.__main__ import main
from lib.production.backup import back_up
from lib.production.images import ImageStore
from lib.production.reading import (
    ANSWER_COLUMNS,
    read_answers,
    read_extent,
    read_failures,
    read_labels,
    read_starts,
    read_vectors,
    stacked,
)
from lib.production.schema import reading
from lib.storage import PROJECT_ROOT, production_dir, sha256_bytes, write_bytes

DATA = b"an image"
CLASSES = ["cat", "dog"]


def row(name="1", data=DATA, **changed):
    """A prediction of a cat."""
    values = {
        "id": name, "version": "v1", "arm": "champion", "label": "cat", "probability": 0.9, "decision": "accepted",
        "distance": 0.1, "milliseconds": 7.5, "sha256": sha256_bytes(data), "vector": np.arange(3, dtype=np.float32),
    }  # fmt: skip
    return Logged(**values | changed)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    """A database of each kind; the tables of an earlier test are gone."""
    if request.param == "sqlite":
        return default_url("t")
    url = request.getfixturevalue("postgres")
    engine = connect_to(url)
    predictions.metadata.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def log(url):
    opened = ProductionLog("t", url)
    opened.open()
    yield opened
    opened.close()


def rows_of(url, table):
    """All rows of a table, read over another connection."""
    engine = connect_to(url)
    with engine.connect() as connection:
        found = connection.execute(select(table)).all()
    engine.dispose()
    return found


def test_what_is_recorded_is_durable_with_vector_and_image(log, url):
    before = time.time()
    assert log.record([row()], [DATA])
    (found,) = rows_of(url, predictions)
    assert (found.id, found.task, found.label, found.decision, found.kept) == ("1", "t", "cat", "accepted", True)
    assert before <= found.created <= time.time()
    np.testing.assert_array_equal(np.frombuffer(found.vector, "<f4"), [0, 1, 2])
    assert log.images.path(found.sha256).read_bytes() == DATA


def test_many_threads_lose_nothing(log, url):
    def client(number):
        for step in range(25):
            assert log.record([row(f"{number}-{step}")], [DATA])

    threads = [threading.Thread(target=client, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({found.id for found in rows_of(url, predictions)}) == 200
    assert log.counts() == (200, 0)


def test_feedback_says_as_a_pseudonym_who_gave_it(log, url):
    log.record([row("1")], [DATA])
    log.give_feedback("dog", CLASSES, prediction="1", source="somebody")
    log.give_feedback("dog", CLASSES, prediction="1")
    assert [found.source for found in rows_of(url, feedback)] == ["somebody", None]
    table = read_labels("t", url)
    assert table["source"].isna().tolist() == [False, True]
    assert table[["label", "answered", "version", "arm"]].drop_duplicates().values.tolist() == [
        ["dog", "cat", "v1", "champion"]
    ]
    np.testing.assert_array_equal(stacked(table["vector"]), [[0, 1, 2], [0, 1, 2]])
    assert len(read_labels("another task", url)) == 0


def test_feedback_by_image_never_means_a_shadow_answer(log):
    log.record([row("1"), row("2", arm="shadow", shadow_of="1")], [DATA, DATA])
    assert log.give_feedback("dog", CLASSES, sha256=sha256_bytes(DATA)).prediction == "1"
    with pytest.raises(FeedbackError):
        log.give_feedback("dog", CLASSES, prediction="2")


def test_tables_of_an_earlier_release_get_their_new_columns(url):
    production_dir("t").mkdir(parents=True)
    engine = connect_to(url)
    with engine.begin() as connection:
        for table, gone in ((predictions, ("client", "shadow_of")), (feedback, ("source",))):
            columns = ", ".join(
                f"{column.name} {column.type.compile(engine.dialect)}" for column in table.columns
                if column.name not in gone
            )  # fmt: skip
            connection.exec_driver_sql(
                f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY ({table.primary_key.columns.keys()[0]}))"
            )
    engine.dispose()
    opened = ProductionLog("t", url)
    opened.open()
    assert opened.record([row("1", client="c")], [DATA])
    assert [found.client for found in rows_of(url, predictions)] == ["c"]
    opened.close()


def test_a_reader_locks_nothing_and_writes_nothing(log, url):
    log.record([row("1")], [DATA])
    with reading("t", url) as connection:
        connection.execute(select(predictions)).all()
        assert log.record([row("2")], [DATA])  # while the reader's transaction is open
        with pytest.raises(DBAPIError):
            connection.execute(predictions.delete())
    assert log.counts() == (2, 0)


def test_feedback_is_given_by_id_or_by_image_and_a_new_class_is_marked(log, url):
    log.record([row("1"), row("2")], [DATA, DATA])
    assert log.give_feedback("dog", CLASSES, prediction="1").is_new is False
    assert log.give_feedback("lynx", CLASSES, sha256=sha256_bytes(DATA)).is_new is True
    assert [(found.label, found.is_new) for found in rows_of(url, feedback)] == [("dog", False), ("lynx", True)]


def test_feedback_to_nothing_is_refused_and_harms_no_other(log):
    log.record([row()], [DATA])
    with pytest.raises(FeedbackError, match="no prediction 'nothing'") as caught:
        log.give_feedback("dog", CLASSES, prediction="nothing")
    assert caught.value.kind == "unknown"
    with pytest.raises(FeedbackError, match="no prediction of this image"):
        log.give_feedback("dog", CLASSES, sha256="0" * 64)
    assert log.counts() == (1, 0)
    assert log.problem == ""


def test_one_key_brings_the_same_feedback_once(log):
    log.record([row("1"), row("2")], [DATA, DATA])
    first = log.give_feedback("dog", CLASSES, prediction="1", key="k")
    again = log.give_feedback("dog", CLASSES, prediction="1", key="k")
    assert (first.repeated, again.repeated) == (False, True)
    for label, prediction in (("cat", "1"), ("dog", "2")):
        with pytest.raises(FeedbackError, match="other feedback before") as caught:
            log.give_feedback(label, CLASSES, prediction=prediction, key="k")
        assert caught.value.kind == "reused"
    assert log.counts() == (2, 1)


def test_a_key_still_means_its_image_after_that_was_answered_again(log):
    name = sha256_bytes(DATA)
    log.record([row("1")], [DATA])
    first = log.give_feedback("dog", CLASSES, sha256=name, key="k")
    log.record([row("2")], [DATA])
    again = log.give_feedback("dog", CLASSES, sha256=name, key="k")
    assert (again.prediction, again.repeated) == (first.prediction, True)
    assert log.counts() == (2, 1)


def test_a_job_that_fails_by_its_own_fault_harms_no_other(log, url):
    block = log._submit(lambda connection: time.sleep(0.3))  # so that the next ones share a commit
    good, bad, after = (
        log._submit(lambda connection, number=number: log._insert(connection, [(row(number), DATA)]))
        for number in ("1", "\ud800", "2")
    )
    block.result()
    good.result()
    after.result()
    with pytest.raises(LogError):
        bad.result()
    assert sorted(found.id for found in rows_of(url, predictions)) == ["1", "2"]


@pytest.mark.parametrize("kind", [sqlite3.DatabaseError, sqlite3.OperationalError])
def test_a_commit_that_fails_is_told_and_the_next_row_is_written(monkeypatch, kind):
    url = default_url("t")
    log = ProductionLog("t", url)
    log.open()
    assert log.record([row("1")], [DATA])
    dialect = log._writer._engine.dialect
    commit, failures = dialect.do_commit, [kind("database disk image is malformed")]

    def fail_once(connection):
        if failures:
            raise failures.pop()
        commit(connection)

    monkeypatch.setattr(dialect, "do_commit", fail_once)
    assert not log.record([row("2")], [DATA])
    assert log.n_failed == 1
    log.record([row("3")], [DATA])  # nobody waits for it while there is a problem
    assert log.counts() == (2, 0)
    assert log.record([row("4")], [DATA])
    log.close()
    assert [found.id for found in rows_of(url, predictions)] == ["1", "3", "4"]


def test_tasks_in_one_database_are_kept_apart(log, url):
    other = ProductionLog("u", url)
    other.open()
    log.record([row("1")], [DATA])
    other.record([row("2")], [DATA])
    assert log.counts() == other.counts() == (1, 0)
    with pytest.raises(FeedbackError):
        other.give_feedback("dog", CLASSES, prediction="1")
    other.close()


def test_old_rows_go_with_their_feedback_and_images(url):
    now = [1e9]
    log = ProductionLog("t", url, max_days=10, clock=lambda: now[0])
    log.open()
    log.record([row("old", b"old"), row("both", b"both")], [b"old", b"both"])
    log.give_feedback("dog", CLASSES, prediction="old")
    now[0] += 11 * 24 * 3600
    log.record([row("new", b"new"), row("again", b"both")], [b"new", b"both"])
    log.prune()
    assert sorted(found.id for found in rows_of(url, predictions)) == ["again", "new"]
    assert log.counts() == (2, 0)
    assert {name for name, _ in log.images.oldest_first()} == {sha256_bytes(b"new"), sha256_bytes(b"both")}
    log.close()


def test_the_oldest_images_go_where_all_take_too_much_room(url):
    log = ProductionLog("t", url, max_image_bytes=10)
    log.open()
    for number, data in enumerate((b"aaaa", b"bbbb", b"cccc")):
        log.record([row(str(number), data)], [data])
        os.utime(log.images.path(sha256_bytes(data)), (number, number))
    log.prune()
    assert [name for name, _ in log.images.oldest_first()] == [sha256_bytes(b"bbbb"), sha256_bytes(b"cccc")]
    assert log.counts() == (3, 0)
    log.close()


def test_images_are_not_kept_where_that_is_not_wanted(url):
    log = ProductionLog("t", url, keep_images=False)
    log.open()
    assert log.record([row()], [DATA])
    assert rows_of(url, predictions)[0].kept is False
    assert log.images.oldest_first() == []
    log.close()


def test_sqlite_writes_ahead_and_syncs_every_commit():
    engine = connect_to(default_url("t"))
    Path(engine.url.database).parent.mkdir(parents=True)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


def test_a_locked_database_stops_nothing_and_says_so():
    log = ProductionLog("t", default_url("t"))
    log.open()
    assert log.record([row("1")], [DATA])
    other = sqlite3.connect(default_url("t").removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not log.record([row("2")], [DATA])
    with pytest.raises(LogError, match="locked"):
        log.give_feedback("dog", CLASSES, prediction="1")
    assert "locked" in log.problem
    assert log.n_failed > 0
    started = time.monotonic()
    assert not log.record([row("3")], [DATA])  # nobody waits for what cannot be written
    assert time.monotonic() - started < 0.5
    other.execute("COMMIT")
    other.close()
    assert log.give_feedback("dog", CLASSES, prediction="1").label == "dog"
    assert log.record([row("4")], [DATA])
    assert log.problem == ""
    log.close()


def test_a_damaged_database_is_told_and_stops_nothing():
    path = Path(default_url("t").removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 100)
    log = ProductionLog("t", default_url("t"))
    log.open()
    assert not log.record([row()], [DATA])
    assert "not a database" in log.problem
    log.close()


def test_a_log_whose_file_was_removed_is_begun_anew():
    log = ProductionLog("t", default_url("t"))
    log.open()
    assert log.record([row("1")], [DATA])
    for path in Path(default_url("t").removeprefix("sqlite:///")).parent.glob("production.db*"):
        path.unlink()
    assert log.record([row("2")], [DATA])
    assert [found.id for found in rows_of(default_url("t"), predictions)] == ["2"]
    log.close()


def test_what_is_told_names_no_path():
    log = ProductionLog("t", default_url("t"))
    log.open()
    log.images.folder.parent.mkdir(parents=True, exist_ok=True)
    log.images.folder.write_text("no folder")
    assert not log.record([row()], [DATA])
    assert log.problem
    assert str(log.images.folder.parent) not in log.problem
    log.close()


def test_a_folder_that_cannot_be_made_is_told_and_tried_again(monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("no folder")
    monkeypatch.setenv("PRODUCTION_DIR", str(tmp_path / "taken"))
    log = ProductionLogs().get("t")
    assert not log.record([row()], [DATA])
    assert log.problem in ("Not a directory", "File exists")
    (tmp_path / "taken").unlink()
    log.record([row("2")], [DATA])  # it waits for nothing while there is a problem
    log.close()
    assert [found.id for found in rows_of(default_url("t"), predictions)] == ["2"]


def test_a_database_that_is_down_is_told():
    log = ProductionLog("t", f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")
    log.open()
    assert not log.record([row()], [DATA])
    assert log.problem
    log.close()


@pytest.mark.parametrize("url", ["nonsense", "oracle+nothing://x", "postgresql+psycopg://u:secret@h:port/x"])
def test_what_is_no_database_url_is_refused_without_its_password(url):
    with pytest.raises(ParameterError, match="sqlite:///PATH") as caught:
        connect_to(url)
    assert "secret" not in str(caught.value)


def test_a_user_without_a_password_gets_the_one_of_the_environment(monkeypatch, tmp_path):
    (tmp_path / "password").write_text("p@ss:word\n")
    monkeypatch.setenv("LOG_PASSWORD_FILE", str(tmp_path / "password"))
    assert connect_to("postgresql+psycopg://me@host/db").url.password == "p@ss:word"
    assert connect_to("postgresql+psycopg://me:own@host/db").url.password == "own"
    assert connect_to(f"sqlite:///{tmp_path}/x.db").url.password is None


def test_the_log_of_a_task_is_where_the_environment_says(monkeypatch):
    assert default_url("t").startswith("sqlite:///")
    monkeypatch.setenv("LOG_URL", "postgresql+psycopg://me@host/db")
    assert default_url("t") == "postgresql+psycopg://me@host/db"


def test_an_image_is_kept_once_and_under_no_other_name(tmp_path):
    store = ImageStore(tmp_path)
    name = sha256_bytes(DATA)
    store.keep(name, DATA)
    changed = store.path(name).stat().st_mtime_ns
    store.keep(name, DATA)
    assert store.path(name).stat().st_mtime_ns == changed
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path(name[:2], name)]
    store.remove(name)
    store.remove(name)
    assert store.oldest_first() == []


@pytest.fixture
def held(monkeypatch):
    """Writing an image waits for this event; the list has what was begun."""
    event, begun = threading.Event(), []

    def write(path, data):
        begun.append(path.name)
        assert event.wait(30)
        write_bytes(path, data)

    monkeypatch.setattr(images, "write_bytes", write)
    event.begun = begun
    yield event
    event.set()


def test_an_image_that_was_begun_is_waited_for_and_written_once(tmp_path, held):
    store, name = ImageStore(tmp_path), sha256_bytes(DATA)
    store.begin(name, DATA)
    store.begin(name, DATA)
    keeping = threading.Thread(target=store.keep, args=[name, DATA])
    keeping.start()
    keeping.join(0.2)
    assert keeping.is_alive()  # it is not durable yet
    held.set()
    keeping.join(30)
    assert store.path(name).read_bytes() == DATA
    store.begin(name, DATA)
    assert held.begun == [name]


def test_only_so_many_images_are_begun_at_a_time_and_all_are_kept(tmp_path, held):
    store, files = ImageStore(tmp_path), [b"%d" % number for number in range(images.MAX_BEGUN + 3)]
    for data in files:
        store.begin(sha256_bytes(data), data)
    held.set()
    for data in files:
        store.keep(sha256_bytes(data), data)
    assert sorted(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) == sorted(files)
    assert set(held.begun[: images.MAX_BEGUN]) == {sha256_bytes(data) for data in files[: images.MAX_BEGUN]}


def test_an_image_that_could_not_be_begun_is_told_when_it_is_kept(tmp_path):
    (tmp_path / "images").write_text("no folder")
    store, name = ImageStore(tmp_path / "images"), sha256_bytes(DATA)
    store.begin(name, DATA)
    with pytest.raises(OSError, match="images"):
        store.keep(name, DATA)


def test_an_image_whose_answer_never_came_goes_and_one_that_is_kept_stays(log):
    log.begin_image(sha256_bytes(b"refused"), b"refused")
    log.images.keep(sha256_bytes(b"refused"), b"refused")  # waits for it
    log.begin_image(sha256_bytes(DATA), DATA)
    log.images.keep(sha256_bytes(DATA), DATA)
    log.prune()  # before the row came
    assert log.record([row()], [DATA])
    log.prune()
    assert [name for name, _ in log.images.oldest_first()] == [sha256_bytes(DATA)]


def test_a_log_that_keeps_no_images_begins_none(log, held):
    log.begin_image(sha256_bytes(b"other"), b"other")
    log.keep_images = False
    log.begin_image(sha256_bytes(DATA), DATA)
    assert list(log.images._begun) == [sha256_bytes(b"other")]


def test_an_image_that_failed_before_it_was_kept_is_written_anew(tmp_path, monkeypatch):
    store, name, tried = ImageStore(tmp_path), sha256_bytes(DATA), []

    def write(path, data):
        write_bytes(path, data)
        tried.append(path.name)
        if len(tried) == 1:
            raise OSError("the folder could not be synced")

    monkeypatch.setattr(images, "write_bytes", write)
    store.begin(name, DATA)
    until = time.monotonic() + 30
    while store._begun and time.monotonic() < until:
        time.sleep(0.01)
    store.keep(name, DATA)
    assert tried == [name, name]
    assert store.path(name).read_bytes() == DATA


def test_a_folder_that_may_not_be_looked_at_stops_no_request(tmp_path, monkeypatch):
    def exists(path):
        raise PermissionError(13, "Permission denied", str(path))

    store, name = ImageStore(tmp_path), sha256_bytes(DATA)
    monkeypatch.setattr(Path, "exists", exists)
    store.begin(name, DATA)
    with pytest.raises(PermissionError):
        store.keep(name, DATA)


def test_a_log_is_read_by_windows_beside_its_service(url, clock):
    log = ProductionLog("t", url, max_days=2, clock=clock)
    log.open()
    for number in range(5):
        clock.now = 1000.0 + number
        assert log.record([row(f"{number}", vector=np.full(3, number, np.float32))], [DATA])
    assert log.record([row("shadow", arm="shadow", shadow_of="4")], [DATA])
    assert read_extent("t", url) == (1000, 1004)
    assert read_extent("other", url) is None
    assert read_starts("t", url, 2, 0) == [1000, 1002, 1004]
    assert read_starts("t", url, 3, 1001) == [1001, 1004]
    assert read_starts("other", url, 2, 0) == []
    answers = read_answers("t", url, 1001, 1004)
    assert list(answers["id"]) == ["1", "2", "3"]
    assert list(answers.columns) == ANSWER_COLUMNS
    np.testing.assert_array_equal(read_vectors("t", url, ["3", "1"]), [[3, 3, 3], [1, 1, 1]])
    log.add_failures({503: 3})
    clock.now += 1
    log.add_failures({503: 2, 415: 1})
    assert read_failures("t", url, 1004, 1005) == {503: 3}
    assert read_failures("t", url, 0, 1e9) == {415: 1, 503: 5}
    clock.now = 1004.5 + 2 * 86400
    log.prune()
    assert read_failures("t", url, 0, 1e9) == {415: 1, 503: 2}
    assert len(read_answers("t", url, 0, 1e9)) == 0
    log.close()


def test_a_log_of_an_earlier_release_has_no_counts(tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = connect_to(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE predictions (id TEXT)")
    engine.dispose()
    assert read_failures("t", url, 0, 1e9) == {}


def test_each_task_has_its_log_and_all_are_closed():
    logs = ProductionLogs(keep_images=False)
    assert logs.get("t") is logs.get("t")
    assert logs.get("t").record([row()])
    assert logs.get("u").counts() == (0, 0)
    stopped = threading.Event()
    tending = threading.Thread(target=logs.tend, args=[stopped, 0.01])
    tending.start()
    stopped.wait(0.1)
    stopped.set()
    tending.join(timeout=5)
    assert logs.get("t").counts() == (1, 0)
    logs.close()


KILLED = """
import os, sys, threading
sys.path.insert(0, "tests")
from test_production import DATA, CLASSES, row
from lib.production import ProductionLog, default_url
log = ProductionLog("t", default_url("t"))
log.open()

def client(number):
    step = 0
    while True:
        name = f"{sys.argv[1]}-{number}-{step}"
        if log.record([row(name)], [DATA]):
            os.write(1, f"p {name}\\n".encode())
            log.give_feedback("dog", CLASSES, prediction=name, key=name)
            os.write(1, f"f {name}\\n".encode())
        step += 1

for number in range(4):
    threading.Thread(target=client, args=[number]).start()
"""


def test_nothing_acknowledged_is_lost_when_killed():
    acknowledged = {"p": set(), "f": set()}
    draw = np.random.default_rng(0)
    for kill in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(kill)], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
        )
        lines = [process.stdout.readline()]
        threading.Timer(draw.uniform(0.05, 0.4), process.kill).start()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        for kind, name in (line.split() for line in lines if line.endswith("\n")):
            acknowledged[kind].add(name)
    kept = {found.id for found in rows_of(default_url("t"), predictions)}
    given = [found.prediction for found in rows_of(default_url("t"), feedback)]
    assert len(acknowledged["p"]) > 100
    assert acknowledged["p"] <= kept
    assert acknowledged["f"] <= set(given)
    assert len(given) == len(set(given))


def test_a_log_that_nobody_has_begun_is_empty_in_either_database(monkeypatch, postgres):
    assert len(read_labels("t")) == 0
    assert read_extent("t", "") is None
    monkeypatch.setenv("LOG_URL", postgres)
    engine = connect_to(postgres)
    predictions.metadata.drop_all(engine)
    assert read_extent("t", "") is None
    log = ProductionLogs().get("t")
    assert log.record([row()], [DATA])
    log.close()
    assert read_extent("t", "") is not None
    predictions.metadata.drop_all(engine)
    engine.dispose()
    monkeypatch.setenv("LOG_URL", f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")
    with pytest.raises(LogError, match="cannot be read"):
        read_extent("t", "")


@pytest.mark.parametrize("kind", ["postgresql", "postgresql+psycopg"])
def test_a_database_without_an_encoding_keeps_every_script(postgres, kind):
    engine = connect_to(postgres)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS plain"))
        connection.execute(text("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"))
    engine.dispose()
    url = f"{kind}:{postgres.rsplit('/', 1)[0].partition(':')[2]}/plain"
    log = ProductionLog("t", url)
    log.open()
    assert log.record([row(label="Mütze 帽子")], [DATA]), log.problem
    assert log.give_feedback("шапка", CLASSES, prediction="1").is_new
    log.close()
    assert list(read_answers("t", url, 0, time.time() + 1)["label"]) == ["Mütze 帽子"]


def test_a_backup_is_the_log_of_one_moment_with_its_images_and_can_be_brought_up_to_date(tmp_path, capsys):
    log, target = ProductionLogs().get("t"), tmp_path / "backup"
    stopped = threading.Event()

    def write():
        number = 0
        while not stopped.is_set():
            data = b"%d" % number
            assert log.record([row(f"w{number}", data)], [data])
            number += 1

    log.record([row("1")], [DATA])
    writer = threading.Thread(target=write)
    writer.start()
    assert main(["backup", "--task", "t", str(target)]) == 0
    stopped.set()
    writer.join()
    copied = rows_of(f"sqlite:///{target}/t/production.db", predictions)
    assert "1" in {found.id for found in copied}
    store = ImageStore(target / "t" / "images")
    assert all(store.path(found.sha256).exists() for found in copied)
    log.record([row("2", b"another")], [b"another"])
    assert back_up("t", target)[0]
    assert {found.id for found in rows_of(f"sqlite:///{target}/t/production.db", predictions)} >= {"1", "2"}
    assert back_up("t", target) == (True, 0)
    log.close()
    shutil.rmtree(production_dir("t"))
    shutil.copytree(target / "t", production_dir("t"))  # restored
    again = ProductionLogs().get("t")
    assert again.counts()[0] == len(rows_of(default_url("t"), predictions))
    assert again.record([row("3")], [DATA])
    again.close()


def test_a_backup_without_a_log_says_so_and_one_in_a_database_copies_the_rest(tmp_path, monkeypatch, capsys):
    assert main(["backup", "--task", "t", str(tmp_path / "backup")]) == 1
    assert "nobody has asked the service anything yet" in capsys.readouterr().err
    production_dir("t").mkdir(parents=True)
    (production_dir("t") / "reviews.csv").write_text("sha256,label\n")
    monkeypatch.setenv("LOG_URL", "postgresql+psycopg://me@host/db")
    assert main(["backup", "--task", "t", str(tmp_path / "backup")]) == 0
    assert "not the log" in capsys.readouterr().out
    assert (tmp_path / "backup" / "t" / "reviews.csv").read_text() == "sha256,label\n"
