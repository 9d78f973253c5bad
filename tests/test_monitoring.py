import contextlib
import http.server
import io
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_CLASSES
from PIL import Image, ImageOps
from streams import answered, copied_task, taught, unseen

from lib import registry
from lib.alarms import ALARM, OK, TOO_FEW, WARNING, read_monitoring
from lib.drift import LEAST, LEVEL, fit_space
from lib.errors import AlarmError, ArtifactError, LogError, ParameterError
from lib.estimates import Estimate
from lib.monitoring import baseline as baselines
from lib.monitoring import causes, crossfit, record, suggestions, trials, webhook, windows
from lib.monitoring.__main__ import main
from lib.monitoring.reporter import forget_runs
from lib.monitoring.survey import accuracy_course, make_survey, summary, traffic_table
from lib.monitoring.verdicts import CALM, MONTH, follow
from lib.prediction import Predictor
from lib.production import ProductionLog, default_url
from lib.production.reading import read_answers, read_failures, read_vectors
from lib.storage import PROJECT_ROOT, production_dir, reports_dir, sha256_bytes, task_dir, write_json

DAY = 86400.0
NOW = 20_000 * DAY + 5 * 3600  # five hours into a day


@pytest.fixture
def clock_log(tiny_task, clock):
    """The open log of the tiny task, at a time that the test sets."""
    log = ProductionLog(tiny_task, default_url(tiny_task), clock=clock)
    log.open()
    yield log
    log.close()


@pytest.fixture
def predictor(tiny_task):
    return Predictor.from_version(registry.champion(tiny_task))


def negative(data):
    """The image with black and white exchanged."""
    buffer = io.BytesIO()
    ImageOps.invert(Image.open(io.BytesIO(data)).convert("RGB")).save(buffer, "PNG")
    return buffer.getvalue()


def stream(n, start=24):
    """Unseen images of the tiny task's classes, in turn: (bytes, label)."""
    each = [unseen(label, -(-n // len(TINY_CLASSES)), start=start) for label in TINY_CLASSES]
    return list(itertools.chain.from_iterable(zip(*each, strict=True)))[:n]


def sent(log, predictor, clock, moment, pairs, **answer):
    """Log answers to images as given at a moment: their ids."""
    clock.now = moment
    return answered(log, predictor, [data for data, _ in pairs], **answer)


# windows


@pytest.mark.parametrize(
    ("length", "expected"), [("30m", (1800, 0)), ("6h", (21600, 0)), ("1d", (86400, 0)), ("500", (0, 500))]
)
def test_lengths(length, expected):
    assert windows.read_length(length) == expected


@pytest.mark.parametrize("length", ["", "0", "0d", "1w", "1.5h", "-3", "d", "12345678"])
def test_lengths_that_are_none(length):
    with pytest.raises(ParameterError, match="30m, 6h, 1d"):
        windows.read_length(length)


def test_windows_of_time_lie_on_a_fixed_grid(tiny_task, clock_log, clock, predictor):
    sent(clock_log, predictor, clock, NOW - 2.5 * DAY, stream(1))
    sent(clock_log, predictor, clock, NOW - 0.1 * DAY, stream(2)[1:])
    spans = windows.cut(tiny_task, "", "1d", 30, NOW)
    assert [span.start / DAY for span in spans] == [19997, 19998, 19999, 20000]
    assert [span.is_over for span in spans] == [True, True, True, False]
    assert windows.cut(tiny_task, "", "1d", 30, NOW + 3600) == spans  # a later look judges the same ones
    assert [span.start / DAY for span in windows.cut(tiny_task, "", "1d", 2, NOW)] == [19998, 19999, 20000]


def test_windows_of_so_many_answers_are_over_once_the_next_begins(tiny_task, clock_log, clock, predictor):
    for number, pair in enumerate(stream(7)):
        sent(clock_log, predictor, clock, NOW + number, [pair])
    spans = windows.cut(tiny_task, "", "3", 30, NOW + 100)
    assert [len(read_answers(tiny_task, "", span.start, span.end)) for span in spans] == [3, 3, 1]
    assert [span.is_over for span in spans] == [True, True, False]
    clock.now = NOW + 90 * DAY + 1.5  # the first two are deleted, and the windows stay where they were
    clock_log.prune()
    assert windows.cut(tiny_task, "", "3", 30, NOW, judged=spans[:2]) == spans[1:]
    assert windows.cut(tiny_task, "", "3", 30, NOW)[0].start == NOW + 2  # where nobody knows of them


def test_numbers_that_mean_nothing_are_refused(tiny_task):
    with pytest.raises(ParameterError, match="n_windows must be 1 or more"):
        windows.cut(tiny_task, "", "1d", 0, NOW)
    with pytest.raises(ParameterError, match="draws must be 0 or more"):
        trials.make_trials(tiny_task, None, -1)


def test_an_empty_log_has_no_windows(tiny_task, clock_log):
    clock_log.counts()  # it is there
    assert windows.cut(tiny_task, "", "1d", 30, NOW) == []
    assert windows.cut(tiny_task, "", "500", 30, NOW) == []


def test_no_log_is_an_empty_one_unless_it_was_named(tiny_task, tmp_path):
    assert windows.cut(tiny_task, "", "1d", 30, NOW) == []
    with pytest.raises(LogError, match="cannot be read"):
        windows.cut(tiny_task, f"sqlite:///{tmp_path}/none.db", "1d", 30, NOW)


def test_a_window_compares_every_content_once_and_nothing_trained_on(tiny_task, clock_log, clock, predictor):
    pairs = stream(6)
    sent(clock_log, predictor, clock, NOW, [*pairs, pairs[0]])
    sent(clock_log, predictor, clock, NOW, stream(9)[6:], backbone="another")
    clock_log.add_failures({503: 4, 400: 1})
    clock_log.add_failures({503: 2})
    trained = sha256_bytes(pairs[1][0])
    span = windows.Span(NOW, NOW + 1)
    backbone = predictor.card["backbone"]["fingerprint"]
    window = windows.read_window(tiny_task, "", span, backbone, {trained})
    assert (window.facts["n"], window.facts["n_images"], len(window.sample)) == (10, 5, 5)
    assert trained not in set(window.sample["sha256"])
    assert window.facts["failed"] == {400: 1, 503: 6}
    assert window.facts["arms"] == {"champion": 10}
    assert window.facts["versions"] == {predictor.version.name: 10}
    assert window.facts["milliseconds"] == {"50": 5.0, "95": 5.0, "99": 5.0}
    fewer = windows.read_window(tiny_task, "", span, backbone, set(), most=3)
    assert (fewer.facts["n_images"], len(fewer.sample)) == (6, 3)
    assert read_failures(tiny_task, "", NOW + 1, NOW + 2) == {}


def test_vectors_come_in_the_order_asked_for(tiny_task, clock_log, clock, predictor):
    ids = sent(clock_log, predictor, clock, NOW, stream(5))
    forth, back = read_vectors(tiny_task, "", ids), read_vectors(tiny_task, "", ids[::-1])
    assert forth.shape == (5, predictor.encoder.dim)
    assert (forth == back[::-1]).all()
    assert read_vectors(tiny_task, "", []).shape == (0, 0)


def test_labelled_accuracy_by_window_and_class(tiny_task, clock_log, clock, predictor):
    clock.now = NOW
    first, second = TINY_CLASSES[:2]
    taught(clock_log, predictor, unseen(first, 4))
    ids = sent(clock_log, predictor, clock, NOW + DAY, unseen(second, 2, start=40))
    for label in ("something else", second):  # the later label of an answer counts
        clock_log.give_feedback(label, predictor.classes, prediction=ids[0])
    spans = [
        windows.Span(NOW, NOW + 1),
        windows.Span(NOW + DAY, NOW + DAY + 1),
        windows.Span(NOW + 9 * DAY, NOW + 10 * DAY),
    ]
    table = windows.labelled_accuracy(tiny_task, "", spans)
    assert table["n"].to_list() == [4, 1, 0]
    rows = read_answers(tiny_task, "", NOW, NOW + 1)
    assert table["accuracy"][0] == pytest.approx((rows["label"] == first).mean())
    assert table["estimated"][0] == pytest.approx(rows["probability"].mean())
    assert np.isnan(table["accuracy"][2])
    by_class = windows.labelled_by_class(tiny_task, "", spans).set_index("label")
    assert by_class["n"].to_dict() == {first: 4, second: 1}


# states


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.5, 0.04, 0.5], [OK, WARNING, OK]),
        ([None, 0.5, None], [TOO_FEW, OK, TOO_FEW]),
        ([LEVEL / MONTH, 0.5, 0.5, 0.5], [ALARM, ALARM, OK, OK]),  # it ends once CALM windows are calm
        ([0.0001, 0.5, 0.04, 0.5, 0.5], [ALARM, ALARM, ALARM, ALARM, OK]),  # and a warning keeps it on
        ([0.0001, None, 0.5, None, 0.5], [ALARM, ALARM, ALARM, ALARM, OK]),  # nothing known does not end it
        ([LEVEL], [WARNING]),
        ([], []),
    ],
)
def test_states_follow_with_hysteresis(p_values, expected):
    assert CALM == 2
    assert [standing.state for standing in follow(p_values)] == expected
    for place in range(len(p_values)):  # whatever came before is remembered by where it stood
        *_, begun = follow(p_values[: place + 1])
        assert [standing.state for standing in follow(p_values[place + 1 :], begun)] == expected[place + 1 :]


# what windows are held against


def test_the_baseline_is_what_was_not_trained_on_beside_other_vectors(tiny_task):
    baseline = baselines.make_baseline(tiny_task)
    manifest = pd.read_parquet(task_dir(tiny_task) / "manifest.parquet")
    n_unseen, n_train = (manifest["split"] != "train").sum(), (manifest["split"] == "train").sum()
    assert len(baseline.unseen) == len(baseline.files) == n_unseen
    assert len(baseline.points) == len(baseline.labels) == n_unseen + n_train - n_train // 3
    assert {sha256 for _, sha256 in baseline.files}.isdisjoint(baseline.trained)
    assert all(path.is_file() for path, _ in (*baseline.files, *baseline.seen.files))
    assert baseline.confusion.sum() == n_unseen
    assert baseline.fingerprint == baselines.make_baseline(tiny_task).fingerprint
    assert baseline.fingerprint != baselines.make_baseline(tiny_task, seed=1).fingerprint


def test_a_span_of_production_can_be_the_baseline(tiny_task, clock_log, clock, predictor):
    sent(clock_log, predictor, clock, NOW, stream(120))
    baseline = baselines.make_baseline(tiny_task, "2024-10-04/2024-10-05")
    assert "production" in baseline.told
    assert len(baseline.unseen) == len(baseline.points) == 120
    assert all(path.is_file() for path, _ in baseline.files)
    with pytest.raises(ParameterError, match="0 usable images"):
        baselines.make_baseline(tiny_task, "2023-10-04/2023-10-05")


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-02", "2026-11-02/2026-11-01", "a/b", "1/2/3"])
def test_a_reference_that_is_none(text):
    with pytest.raises(ParameterError, match="reference must be data or a span"):
        baselines.read_span(text)


def test_answers_are_those_of_the_predictor(tiny_task, predictor):
    images = [data for data, _ in stream(9)]
    results = predictor.predict(images)
    views = baselines.make_baseline(tiny_task).views(np.stack([result.vector for result in results]))
    assert [predictor.classes[code] for code in views.codes] == [result.label for result in results]
    assert views.confidence == pytest.approx([result.probability for result in results], abs=1e-6)
    assert [baselines.DECISIONS[place] for place in views.decisions] == [result.decision for result in results]


# the whole survey


@pytest.fixture(scope="session")
def kept_month(tmp_path_factory):
    """An empty folder for what `monitored` logs once for all tests."""
    return tmp_path_factory.mktemp("monitored") / "production"


@pytest.fixture
def monitored(tiny_task, kept_month, clock, predictor):
    """Two days as the task's images are, and one of their negatives."""
    if not kept_month.exists():
        log = ProductionLog(tiny_task, default_url(tiny_task), clock=clock)
        log.open()
        sent(log, predictor, clock, NOW - 3 * DAY, stream(90))
        sent(log, predictor, clock, NOW - 2 * DAY, stream(180)[90:])
        changed = [(negative(data), label) for data, label in stream(270)[180:]]
        sent(log, predictor, clock, NOW - DAY, changed)
        sent(log, predictor, clock, NOW, stream(271)[270:])
        log.close()
        shutil.copytree(production_dir(tiny_task), kept_month)
    shutil.copytree(kept_month, production_dir(tiny_task), dirs_exist_ok=True)
    return tiny_task


def test_a_survey_rings_when_images_change_and_says_how(monitored):
    baseline = baselines.make_baseline(monitored)
    survey = make_survey(monitored, "", baseline, "1d", 30, NOW)
    assert survey.table()["state"].to_list() == [OK, OK, ALARM, "not over yet"]
    assert survey.state == ALARM
    assert survey.since == survey.windows[2].span.name
    assert survey.focus is survey.windows[2]
    views = baseline.views(read_vectors(monitored, "", list(survey.focus.sample["id"])))
    found = causes.find_causes(
        views, baseline, causes.window_looks(monitored, baseline, survey.focus), survey.verdict(survey.focus)
    )
    assert found.sentences[0].startswith("Images look different: ")
    brightness = found.looks.set_index("look").loc["brightness"]
    assert brightness["window"] == pytest.approx(1 - brightness["reference"], abs=0.15)
    assert brightness["p_value"] < 0.001
    said = summary(survey, baseline, found)
    assert (said["state"], said["window"]) == (ALARM, survey.focus.span.name)
    assert said["causes"] == found.sentences
    assert len(said["windows"]) == 3
    json.dumps(said, allow_nan=False)


def test_what_was_judged_is_not_judged_again(monitored, tmp_path, monkeypatch):
    copied_task(monitored, tmp_path, monkeypatch)  # other tests' task has no state
    baseline = baselines.make_baseline(monitored)
    first = make_survey(monitored, "", baseline, "1d", 30, NOW)
    record.write_record(monitored, summary(first, baseline, None))
    judged = []
    monkeypatch.setattr("lib.monitoring.survey.judge", lambda *arguments: judged.append(arguments[-1].span.is_over))
    second = make_survey(monitored, "", baseline, "1d", 30, NOW)
    assert judged == [False]  # the one that is not over
    assert second.verdicts[:3] == first.verdicts[:3]
    assert second.states == first.states
    later = make_survey(monitored, "", baseline, "1d", 1, NOW + 2 * DAY)  # a day without answers; the alarm's is gone
    assert [window.facts["n"] for window in later.windows] == [0, 0]
    assert later.states == [ALARM]


def test_too_few_images_are_no_verdict(tiny_task, clock_log, clock, predictor):
    sent(clock_log, predictor, clock, NOW - 2 * DAY, stream(LEAST - 1))  # and a day without any
    baseline = baselines.make_baseline(tiny_task)
    survey = make_survey(tiny_task, "", baseline, "1d", 30, NOW)
    assert (survey.state, survey.focus, survey.verdicts) == (TOO_FEW, None, [None, None, None])
    assert accuracy_course(tiny_task, "", survey)["expected"].isna().to_list() == [False, True, True]
    json.dumps(summary(survey, baseline, None), allow_nan=False)
    assert make_survey(tiny_task, "", baselines.make_baseline(tiny_task), "1d", 30, NOW - 9 * DAY).state == TOO_FEW


def test_images_answered_as_a_class_that_updates_added_are_left_out(monitored):
    baseline = baselines.make_baseline(monitored)
    assert baseline.taught == frozenset()
    code = 0
    survey = make_survey(monitored, "", replace(baseline, taught=frozenset({code})), "1d", 30, NOW)
    rows = read_answers(monitored, "", survey.windows[0].span.start, survey.windows[0].span.end)
    expected = (rows["label"] != baseline.predictor.classes[code]).sum()
    assert survey.table()["compared"][0] == expected >= LEAST


def test_a_champion_of_other_data_has_no_unseen_images(tiny_task, tmp_path, monkeypatch):
    copied_task(tiny_task, tmp_path, monkeypatch)
    path = task_dir(tiny_task) / "dataset.json"
    write_json(path, json.loads(path.read_text()) | {"data_hash": "another"})
    with pytest.raises(ArtifactError, match="other data or another split"):
        baselines.make_baseline(tiny_task)


def test_courses_of_a_survey(monitored, clock_log, clock):
    clock.now = NOW
    clock_log.add_failures({503: 3})
    survey = make_survey(monitored, "", baselines.make_baseline(monitored), "1d", 30, NOW)
    traffic = traffic_table(survey)
    assert traffic["n"].to_list() == [90, 90, 90, 1]
    assert traffic["failed"].to_list() == [0, 0, 0, 3]
    assert traffic["by status"].to_list()[-1] == "503: 3"
    course = accuracy_course(monitored, "", survey)
    assert ((course["expected_low"] <= course["expected"]) & (course["expected"] <= course["expected_high"])).all()


# what has changed


def look_table(**columns):
    generator = np.random.default_rng(0)
    return pd.DataFrame({look: generator.random(60) for look in causes.LOOKS} | columns)


def test_only_looks_that_changed_are_told():
    table = causes.compare_looks(look_table(), look_table(warmth=np.random.default_rng(1).random(60) + 2))
    assert table["look"][0] == "warmth"
    assert (table["p_value"] <= LEVEL).sum() == 1


def test_looks_without_images_and_without_spread():
    assert len(causes.compare_looks(look_table(), look_table().iloc[:0])) == 0
    same = causes.compare_looks(look_table(warmth=0.0), look_table(warmth=0.0)).set_index("look")
    assert same.loc["warmth", "p_value"] == 1.0
    assert np.isnan(same.loc["warmth", "change"])
    coloured = causes.compare_looks(look_table(warmth=0.0), look_table(warmth=1.0)).head(1)
    nothing = Estimate(0.0, 0.0, 0.1)
    mix = pd.DataFrame(columns=["label", "reference", "share", "low", "high"])
    found = causes.Causes(mix, None, coloured, nothing, nothing, has_mixed=False)
    assert found.sentences == ["Images look different: warmth 0 -> 1."]


def test_colours_of_a_red_picture(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), (255, 0, 0)).save(path)
    row = causes.read_looks([(path, "0" * 64), (tmp_path / "none.png", "1" * 64)]).iloc[0]
    assert (row["saturation"], row["warmth"], row["longer side"]) == (1.0, 1.0, 40.0)


def test_another_mix_of_classes_is_named(tiny_task, clock_log, clock, predictor):
    often = TINY_CLASSES[0]
    pairs = [*unseen(often, 80), *stream(30, start=110)]
    sent(clock_log, predictor, clock, NOW - DAY, pairs)
    baseline = baselines.make_baseline(tiny_task)
    survey = make_survey(tiny_task, "", baseline, "1d", 30, NOW)
    assert survey.state == ALARM
    views = baseline.views(read_vectors(tiny_task, "", list(survey.focus.sample["id"])))
    no_looks = causes.compare_looks(look_table(), look_table().iloc[:0])
    found = causes.find_causes(views, baseline, no_looks, survey.verdict(survey.focus))
    assert any(sentence.startswith(f"Another mix of classes: {often}") for sentence in found.sentences)
    assert found.mix["label"][0] == often
    assert found.mix["share"][0] == pytest.approx(90 / 110, abs=0.12)


# what to look at


def rows_of(n, **columns):
    names = [f"{number:064d}" for number in range(n)]
    values = {"id": names, "sha256": names, "label": "a", "probability": 0.5, "decision": "unknown", "kept": True,
              "distance": np.arange(n) / n}  # fmt: skip
    return pd.DataFrame(values | columns)


def test_the_most_foreign_images_are_kept_ones_each_once():
    rows = rows_of(5, kept=[True, True, True, True, False], sha256=["a", "b", "c", "c", "e"])
    assert suggestions.most_foreign(rows)["distance"].to_list() == [0.4, 0.2, 0.0]
    assert len(suggestions.most_foreign(rows_of(3, distance=[None, 0.1, None]))) == 1


def test_unknown_images_that_look_alike_are_offered_as_a_class(tiny_task, clock_log, clock, predictor):
    generator, images = np.random.default_rng(0), []
    for _ in range(12):  # bars, which are no clothes
        pixels = np.zeros((28, 28), dtype=np.uint8)
        pixels[::4] = generator.integers(180, 255, (7, 28))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images.append((buffer.getvalue(), "bars"))
    sent(clock_log, predictor, clock, NOW, [*images, *stream(20)])
    rows = read_answers(tiny_task, "", NOW, NOW + 1)
    (group,) = suggestions.unknown_groups(tiny_task, "", rows, predictor)[:1]
    own = {sha256_bytes(data) for data, _ in images}
    assert set(group.rows["sha256"]) <= own
    assert len(group.rows) >= 10
    assert group.told().startswith(f"{len(group.rows)} images like these")
    pairs = suggestions.foreign_pairs(tiny_task, "", rows, predictor)
    assert len(pairs) == suggestions.N_FOREIGN
    assert pairs[0][1][1].startswith("nearest: ")
    assert suggestions.unknown_groups(tiny_task, "", rows.tail(3), predictor) == []


def test_what_to_label_next(tiny_task, clock_log, clock, predictor):
    sent(clock_log, predictor, clock, NOW, stream(30))
    rows = read_answers(tiny_task, "", NOW, NOW + 1)
    found = suggestions.to_label(tiny_task, "", rows, 4)
    assert list(found) == suggestions.LABEL_COLUMNS
    assert found["probability"][0] == rows["probability"].min()
    assert len(set(found["prediction"])) == 4
    assert len(suggestions.to_label(tiny_task, "", rows.iloc[:0], 4)) == 0
    first, second = found["prediction"][:2]
    clock_log.give_feedback("Bag", predictor.classes, prediction=first)
    clock_log.images.remove(found["sha256"][1])
    assert not {first, second} & set(suggestions.to_label(tiny_task, "", rows, 30)["prediction"])


def test_vectors_that_are_gone_are_told(tiny_task, clock_log, clock, predictor):
    ids = sent(clock_log, predictor, clock, NOW, stream(2))
    with pytest.raises(LogError, match="deleted while they were read"):
        read_vectors(tiny_task, "", [*ids, "f" * 32])


# can the alarm be believed


@pytest.fixture
def pool():
    """600 made-up images of three classes; no file can be read."""
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 3
    vectors = (generator.standard_normal((600, 8)) + 3 * np.eye(8)[labels]).astype(np.float32)
    space = fit_space((generator.standard_normal((300, 8)) + 3 * np.eye(8)[np.arange(300) % 3]).astype(np.float32))
    views = baselines.Views(space(vectors), labels, generator.random(600), np.zeros(600, dtype=int))
    baseline = SimpleNamespace(space=space, unseen=range(200), predictor=SimpleNamespace(encoder=None))
    return crossfit.Pool(baseline, views, labels, (), [], np.zeros(600, dtype=int))


def test_without_a_change_it_rings_as_often_as_it_says(pool):
    table = trials.false_alarms(pool, 200, sizes=(50, 200, 700))
    assert table["size"].to_list() == [50, 200]  # of 700 there are too few
    assert table["rate"].between(0.015, 0.08).all()
    months = trials.monthly_alarms(pool, 4, size=50)
    assert (months["draws"][0], months["size"][0]) == (4, 50)
    assert months["alarms"][0] <= 1


def test_with_a_change_it_rings(pool):
    table = trials.power(pool, 6, sizes=(200,)).set_index("change")
    assert set(table.index) == {trials.MIX, trials.UNKNOWN}  # nothing can be darkened without files
    assert (table["rate"] == 1).all()


def test_seen_images_are_answered_by_models_that_did_not_see_them(tiny_task, monkeypatch):
    monkeypatch.setattr(crossfit, "N_FOLDS", 2)  # the classes of the tiny task are small
    baseline = baselines.make_baseline(tiny_task)
    pool = crossfit.make_pool(baseline)
    n_unseen = len(baseline.unseen)
    assert len(pool) == len(baseline.points)
    assert set(pool.model_of[:n_unseen]) == {0}
    assert set(pool.model_of[n_unseen:]) == set(range(1, crossfit.N_FOLDS + 1))
    seen = pool.views.rows(np.arange(n_unseen, len(pool)))
    by_champion = baseline.views(baseline.seen.vectors)
    right = [(views.codes == baseline.seen.labels).mean() for views in (seen, by_champion)]
    assert right[0] < right[1]  # of its own images it knows more
    again = pool.changed(range(n_unseen, len(pool)), baseline.seen.vectors)
    assert (again.codes == seen.codes).all()
    altered = trials.changed_views(pool)
    assert set(altered) == {trials.DARK, trials.BLURRED}
    assert len(altered[trials.DARK]) == len(pool)
    assert not np.allclose(altered[trials.DARK].points, pool.views.points)


def test_trials_are_made_once(tiny_task, tmp_path, monkeypatch):
    copied_task(tiny_task, tmp_path, monkeypatch)
    baseline = baselines.make_baseline(tiny_task)
    assert trials.make_trials(tiny_task, baseline, 0) == {}
    first = trials.make_trials(tiny_task, baseline, 3)
    monkeypatch.setattr(trials, "make_pool", None)
    second = trials.make_trials(tiny_task, baseline, 3)
    assert list(first) == list(second) == list(trials.TRIAL_CAPTIONS)
    for name, table in first.items():
        assert second[name].to_dict("records") == table.to_dict("records")


# records


def test_since_is_the_window_with_which_the_state_began():
    assert record.since(["a", "b", "c", "d"], [OK, ALARM, ALARM]) == "b"
    assert record.since(["a"], [OK]) == "a"


@pytest.mark.parametrize(
    ("state", "fail_on", "fails"),
    [(ALARM, "never", False), (ALARM, "alarm", True), (WARNING, "alarm", False), (WARNING, "warning", True),
     (ALARM, "warning", True), (OK, "warning", False), (TOO_FEW, "warning", False)],
)  # fmt: skip
def test_the_state_from_which_on_a_run_fails(state, fail_on, fails):
    expected = pytest.raises(AlarmError, match=state) if fails else contextlib.nullcontext()
    with expected:
        record.check_state(state, fail_on)


# telling


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what comes; answers with the server's statuses in turn, then 200."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.told, server.statuses = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def state_is(state):
    facts = {"state": state, "since": "now", "text": "", "causes": ["dark"], "windows": []}
    record.write_record("cats", facts)


def test_a_webhook_is_told_when_an_alarm_begins_and_when_it_ends(hook):
    waits = []
    for state in (OK, WARNING, ALARM, ALARM, WARNING, OK):
        state_is(state)
        assert webhook.tell("cats", hook.url, wait=waits.append)
    assert [body["state"] for _, body in hook.told] == [ALARM, WARNING]
    assert hook.told[0][0] == "application/json"
    assert hook.told[0][1]["causes"] == ["dark"]
    assert waits == []


def test_a_webhook_is_tried_again_now_and_the_next_time(hook):
    hook.statuses, waits = [500, 404, 503, 500], []
    state_is(ALARM)
    assert not webhook.tell("cats", hook.url, wait=waits.append)
    assert waits == [2.0, 4.0]
    assert webhook.tell("cats", hook.url, wait=waits.append)
    assert len(hook.told) == 5
    assert webhook.tell("cats", "http://127.0.0.1:1/", wait=waits.append)  # nothing is left to tell


def test_nobody_at_the_webhook_holds_nothing_up():
    state_is(ALARM)
    assert not webhook.tell("cats", "http://127.0.0.1:1/", wait=lambda seconds: None)


def test_a_webhook_that_answers_nonsense_is_told_without_its_secret():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"nonsense\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        problem = webhook.post(f"http://127.0.0.1:{server.getsockname()[1]}/SECRET", {})
    assert problem
    assert "SECRET" not in problem


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "host/hook", "http://", "file:///etc/passwd", "https://host/a b", "http://host:x/", "http://h/\n"],
)
def test_a_webhook_that_is_none(url):
    with pytest.raises(ParameterError, match="http:// or https://"):
        webhook.check_url(url)


# the command line, on a real log


@pytest.fixture
def own_task(monitored, tmp_path, monkeypatch):
    """The monitored task with artifacts and reports of its own."""
    return copied_task(monitored, tmp_path, monkeypatch)


def monitoring(*arguments):
    """The command line as a user runs it."""
    command = [sys.executable, "-m", "lib.monitoring", "--draws", "0", *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=300)


def test_a_report_from_the_command_line(own_task, hook):
    ended = monitoring("--task", own_task, "--window", "90", "--fail-on", "alarm", "--webhook", hook.url)
    assert ended.returncode == 1, ended.stderr
    assert "AlarmError: The state is alarm" in ended.stderr
    said = read_monitoring(own_task)
    assert said["state"] == ALARM
    assert "Images look different" in " ".join(said["causes"])
    assert [body["state"] for _, body in hook.told] == [ALARM]
    page = (reports_dir() / own_task / "05_monitoring.html").read_text()
    assert "Images look different" in page
    assert (reports_dir() / own_task / "to_label.csv").read_text().startswith("prediction,sha256,label")
    index = (reports_dir() / "index.html").read_text()
    assert "alarm since" in index


def test_the_reporter_renders_until_it_is_told_to_end(own_task):
    command = [
        sys.executable,
        "-m",
        "lib.monitoring",
        "--every",
        "1h",
        "--draws",
        "0",
        "--window",
        "90",
        "--task",
        own_task,
    ]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until, index = time.monotonic() + 200, reports_dir() / "index.html"
        while not (index.exists() and "alarm since" in index.read_text()):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.2)
        assert (reports_dir() / own_task / "05_monitoring.html").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_the_reporter_does_not_fill_the_disk_with_runs():
    for number in range(5):
        for name in ("05_monitoring.ipynb", "05_monitoring.json"):
            write_json(task_dir("cats") / "runs" / f"2026-11-2{number}" / name, {})
    write_json(task_dir("cats") / "runs" / "2026-11-19" / "05_monitoring.ipynb", {})
    write_json(task_dir("cats") / "runs" / "2026-11-19" / "01_embedding.ipynb", {})
    forget_runs("cats", 2)
    assert sorted(path.name for path in (task_dir("cats") / "runs").iterdir()) == [
        "2026-11-19",
        "2026-11-23",
        "2026-11-24",
    ]
    forget_runs("dogs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--every", "100"], "as 15m or 1h"), (["--window", "1w"], "30m, 6h, 1d"), (["--webhook", "ftp://x"], "http"),
     (["--task", "none"], "ended with status")],
)  # fmt: skip
def test_bad_usage_is_a_sentence(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("lib.command_line.signal.signal", lambda *arguments: None)
    assert main(arguments) in (1, 2)
    assert said in capsys.readouterr().err
