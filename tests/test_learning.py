"""From labels that people gave to a version that serves, or waits, or is refused; and what survives being killed."""

import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_CLASSES
from PIL import Image
from streams import copied_task, taught, unseen

from lib import experiments, learning, registry
from lib.errors import ArtifactError, ChangedError, DataError, LockedError, LogError
from lib.gate import Margins
from lib.incremental import refit
from lib.labels import BELIEVED, write_reviews
from lib.learning import Settings, Sources, Triggers, decide, due, gather, make_update, step
from lib.learning import __main__ as command
from lib.learning.material import NEAR_COPY, OTHER_BACKBONE, WAITING, vectors_of
from lib.learning.triggers import fallen_accuracy
from lib.learning.worker import read_state, state_path, write_merged
from lib.prediction import Predictor
from lib.production import ProductionLog, default_url
from lib.storage import PROJECT_ROOT, lock, read_json, read_table, reports_dir, sha256_bytes, task_dir, write_json

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NEW = "Sneaker"
AT_ONCE = Settings(triggers=Triggers(labels=1, least_labels=1, cooldown=0.0))


@pytest.fixture
def task(tiny_task, tmp_path, monkeypatch):
    return copied_task(tiny_task, tmp_path, monkeypatch)


@pytest.fixture
def log(task):
    opened = ProductionLog(task, default_url(task))
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def predictor(task):
    return Predictor.from_version(registry.champion(task))


@pytest.fixture
def some_labels(log, predictor):
    """Five right labels of each class."""
    for label in TINY_CLASSES:
        taught(log, predictor, unseen(label, 5))


@pytest.fixture
def a_new_class(log, predictor):
    """Twelve images of a class that the champion does not know, and some of those it knows."""
    taught(log, predictor, unseen(NEW, 12))
    for label in TINY_CLASSES:
        taught(log, predictor, unseen(label, 5))


def test_there_is_nothing_to_learn_before_anybody_has_said_anything(task, log):
    log.counts()  # the tables are there
    material = gather(task, Sources())
    assert (len(material.given), len(material.additions), material.new_classes) == (0, 0, [])
    with pytest.raises(DataError, match="nothing new to learn"):
        make_update(task, material)
    assert step(task, AT_ONCE) is None


def test_labels_that_all_wait_in_quarantine_are_told(task, log, predictor):
    taught(log, predictor, [(data, "Trouser") for data, _ in unseen("Bag", 6, start=0)])  # the task has them as bags
    with pytest.raises(DataError, match=r"no label can be learned yet \(\d wait in quarantine: python -m lib.learning"):
        make_update(task, gather(task, Sources()))


def test_a_task_that_nobody_asked_has_nothing_to_learn_and_a_log_that_was_named_must_be_there(task, tmp_path):
    assert len(gather(task, Sources()).given) == 0
    assert step(task, AT_ONCE) is None
    with pytest.raises(LogError, match="cannot be read"):
        gather(task, Sources(url=f"sqlite:///{tmp_path}/none.db"))


def test_the_exact_update_is_a_training_on_everything(task, some_labels):
    material = gather(task, Sources())
    outcome = make_update(task, material)
    learned = material.learned
    vectors = np.concatenate([material.train.vectors, vectors_of(learned, material.train.vectors.shape[1])])
    labels = np.concatenate([material.codes(material.train.manifest["label"]), material.codes(learned["label"])])
    card = outcome.version.card
    units = np.concatenate([material.train.manifest["unit"], [f"1 {sha256}" for sha256 in learned["sha256"]]])
    data = learning.update.Labelled(vectors, labels)
    scratch = refit(learning.update.Spec.from_json(card["spec"]), data, units, n_folds=card["n_folds"], seed=0)
    found = outcome.version.load().predict_proba(material.test.vectors)
    np.testing.assert_allclose(found, scratch.predict_proba(material.test.vectors), atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "instant"])
def test_an_update_is_a_whole_version_with_its_line(task, some_labels, method):
    parent = registry.champion(task)
    outcome = make_update(task, gather(task, Sources()), method)
    version = registry.evaluated(task, outcome.version.name)
    assert version.name != parent.name
    assert version.card["version"] == version.name
    lineage = version.lineage
    assert (lineage["parent"], lineage["method"], lineage["new_classes"]) == (parent.name, method, [])
    assert sum(lineage["added"].values()) + lineage["n_held_back"] == 15
    assert [row["rule"] for row in lineage["gate"]] == outcome.gate.table["rule"].tolist()
    assert set(registry.read_checksums(version.folder)) >= {registry.ADDITIONS_FILE, registry.CHANGES_FILE}
    reference = Predictor.from_version(version).reference
    assert len(reference.labels) == len(Predictor.from_version(parent).reference.labels) + sum(
        lineage["added"].values()
    )
    assert all(reference.pictures)
    assert version.metrics["decision"]["novelty_threshold"] > 0
    assert registry.champion(task).name == parent.name  # nothing serves it yet


@pytest.mark.parametrize("method", ["exact", "instant"])
def test_a_new_class_is_learned_and_nothing_is_forgotten(task, a_new_class, method):
    material = gather(task, Sources())
    assert material.new_classes == [NEW]
    outcome = make_update(task, material, method)
    assert outcome.version.card["classes"] == [*registry.champion(task).card["classes"], NEW]
    assert (outcome.forgetting["after"] >= outcome.forgetting["before"] - 0.34).all()  # five test images a class
    assert set(outcome.changes.columns) == {"sha256", "path", "label", "before", "after", "effect"}
    predictor = Predictor.from_version(outcome.version)
    answers = predictor.predict([data for data, _ in unseen(NEW, 20, start=60)])
    assert np.mean([answer.label == NEW for answer in answers]) > 0.7
    old = [pair for label in TINY_CLASSES for pair in unseen(label, 15, start=60)]
    answers = predictor.predict([data for data, _ in old])
    assert np.mean([answer.label == label for answer, (_, label) in zip(answers, old, strict=True)]) > 0.85
    assert NEW in set(predictor.reference.labels)


def test_a_new_class_waits_for_its_images(task, log, predictor):
    taught(log, predictor, unseen(NEW, 4))
    taught(log, predictor, unseen("Bag", 5))
    material = gather(task, Sources())
    assert material.new_classes == []
    assert set(material.additions["label"]) == {"Bag"}
    waiting = material.audited[material.audited["label"] == NEW]
    assert set(waiting["reason"]) == {WAITING}
    assert gather(task, Sources(new_class_images=3)).new_classes == [NEW]


def test_what_is_held_back_never_teaches_and_never_changes_sides(task, log, predictor):
    taught(log, predictor, unseen("Bag", 40))
    first = gather(task, Sources())
    assert 2 <= len(first.held_back) <= 16
    taught(log, predictor, unseen("Trouser", 30))
    again = gather(task, Sources())
    assert set(first.held_back["sha256"]) <= set(again.held_back["sha256"])
    assert not set(again.held_back["sha256"]) & set(again.learned["sha256"])


def test_the_next_update_keeps_what_the_log_has_forgotten(task, log, predictor, some_labels):
    outcome = step(task, Settings(approval=False, margins=Margins(1, 1, 1, 1000)), asked=True)
    assert registry.champion(task).name == outcome.version.name
    before = set(gather(task, Sources()).additions["sha256"])
    log.max_days = -1.0
    log.prune()
    material = gather(task, Sources())
    assert len(material.given) == 0
    assert set(material.additions["sha256"]) == before


def test_a_label_that_is_doubted_later_is_unlearned(task, log, predictor, some_labels):
    step(task, Settings(approval=False, margins=Margins(1, 1, 1, 1000)), asked=True)
    doubtful = gather(task, Sources()).additions["sha256"].iloc[0]
    write_reviews(task, {doubtful: None})
    assert doubtful not in set(gather(task, Sources()).additions["sha256"])


def test_vectors_of_another_backbone_are_left_out(task, log, predictor):
    """What an earlier release logged does not say which it was: the version does, while it is kept."""
    bags = unseen("Bag", 12)
    taught(log, predictor, bags[:3])
    taught(log, predictor, bags[3:6], backbone="another")
    taught(log, predictor, bags[6:9], backbone=None)
    taught(log, predictor, bags[9:], backbone=None, version="2001-pruned")
    names = [sha256_bytes(data) for data, _ in bags]
    audited = gather(task, Sources()).audited.set_index("sha256").loc[names]
    foreign = [reason == OTHER_BACKBONE for reason in audited["reason"]]
    assert foreign == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3


def copy_of(data):
    """The same picture in another file."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def test_copies_of_what_judges_do_not_teach_and_copies_of_each_other_stay_on_one_side(task, log, predictor):
    log.counts()  # the tables are there
    test = gather(task, Sources()).test
    judge = (test.root / test.manifest["path"].iloc[0]).read_bytes()
    bags = unseen("Bag", 20)
    taught(log, predictor, [(copy_of(judge), test.manifest["label"].iloc[0])])
    taught(log, predictor, bags)
    taught(log, predictor, [(copy_of(data), label) for data, label in bags])
    material = gather(task, Sources())
    reasons = material.audited.set_index("sha256")["reason"]
    assert reasons[sha256_bytes(copy_of(judge))] == NEAR_COPY
    sides = material.additions.set_index("sha256")["held_back"]
    both = [(sha256_bytes(data), sha256_bytes(copy_of(data))) for data, _ in bags]
    both = [pair for pair in both if set(pair) <= set(sides.index)]
    assert len(both) > 15
    assert all(sides[one] == sides[other] for one, other in both)
    assert 0 < sides.sum() < len(sides)


def test_another_share_that_is_held_back_moves_no_image_that_was_learned(task, some_labels):
    trusting = Settings(approval=False, margins=Margins(1, 1, 1, 1000))
    step(task, trusting, asked=True)
    before = gather(task, Sources()).additions.set_index("sha256")["held_back"]
    after = gather(task, Sources(held_back=0.9)).additions.set_index("sha256")["held_back"]
    assert (before == after[before.index]).all()


def test_a_decision_counts_also_where_the_log_has_forgotten(task, log, predictor, some_labels):
    step(task, Settings(approval=False, margins=Margins(1, 1, 1, 1000)), asked=True)
    first, second = gather(task, Sources()).additions["sha256"].iloc[:2]
    log.max_days = -1.0
    log.prune()
    assert run("--task", task, "--reject", first) == 0
    assert run("--task", task, "--accept", "Bag", second) == 0
    additions = gather(task, Sources()).additions.set_index("sha256")
    assert first not in additions.index
    assert additions.loc[second, "label"] == "Bag"


def test_a_class_whose_images_were_taken_back_is_said_once(task, log, predictor):
    taught(log, predictor, unseen(NEW, 8))
    step(task, Settings(approval=False, margins=Margins(1, 1, 1, 1000)), asked=True)
    assert NEW in registry.champion(task).card["classes"]
    write_reviews(task, {sha256_bytes(data): None for data, _ in unseen(NEW, 8)})
    taught(log, predictor, unseen("Bag", 5))
    with pytest.raises(DataError, match="no images left to learn from"):
        step(task, AT_ONCE)
    assert read_state(task)["updates"][-1]["result"] == "failed"
    assert step(task, AT_ONCE) is None  # not again, before something else is said


def test_an_update_is_left_where_another_champion_was_set_meanwhile(task, some_labels):
    outcome = make_update(task, gather(task, Sources()), margins=Margins(1, 1, 1, 1000))
    registry.promote(task, outcome.version.name)
    again = make_update(task, gather(task, Sources()), margins=Margins(1, 1, 1, 1000))
    registry.rollback(task)
    for approval in (True, False):
        assert decide(task, again, Settings(approval=approval)).startswith("left: Meanwhile another champion")
    assert registry.deployment(task)["challenger"] is None


def test_nothing_is_read_where_nothing_was_said(task, some_labels, monkeypatch):
    step(task, AT_ONCE)
    monkeypatch.setattr("lib.learning.worker.gather", lambda *_: pytest.fail("the log was read"))
    assert step(task, AT_ONCE) is None


def test_a_task_whose_data_have_changed_is_trained_anew_first(task, log):
    log.counts()
    facts = read_json(task_dir(task) / "dataset.json")
    write_json(task_dir(task) / "dataset.json", facts | {"data_hash": "other"})
    with pytest.raises(ChangedError, match="other data or another split"):
        gather(task, Sources())
    assert gather(task, Sources(), anew=True).champion.name == registry.champion(task).name


# When


def test_an_update_is_due_after_enough_labels_and_not_again_at_once(task, log, predictor):
    taught(log, predictor, unseen("Bag", 9))
    triggers = Triggers(labels=17, least_labels=10, cooldown=100.0)
    assert due(gather(task, Sources()), {}, triggers, now=1000.0) == ""
    taught(log, predictor, unseen("Trouser", 12))
    material = gather(task, Sources())
    n = (material.audited["state"] == BELIEVED).sum()
    assert due(material, {}, triggers, now=1000.0) == f"{n} new labels"
    newest = int(material.given["number"].max())
    assert due(material, {"time": 950.0, "number": 0}, triggers, now=1000.0) == ""
    assert due(material, {"time": 0.0, "number": newest}, triggers, now=1000.0) == ""
    assert due(material, {"time": 0.0, "number": newest - 12}, triggers, now=1000.0, alarm=True) == "drift alarm"


def test_an_accuracy_that_has_fallen_sets_an_update_off(task, log, predictor):
    wrong = {"Ankle boot": "Bag", "Bag": "Trouser", "Trouser": "Ankle boot"}
    for label in TINY_CLASSES:
        taught(log, predictor, [(data, wrong[label]) for data, _ in unseen(label, 10)])
    material = gather(task, Sources(rules=learning.material.Rules(confidence=1.1)))
    assert fallen_accuracy(material).startswith("accuracy 0.0")
    assert due(material, {}, Triggers(labels=1000), now=1e9).startswith("accuracy")


def test_a_new_class_sets_an_update_off_however_few_its_labels(task, log, predictor):
    taught(log, predictor, unseen(NEW, 7))
    assert due(gather(task, Sources()), {}, Triggers(labels=1000), now=1e9) == f"new class {NEW}"
    assert step(task, Settings()).version.lineage["why"] == f"new class {NEW}"


# What becomes of it


def test_a_good_update_waits_for_a_person(task, some_labels):
    champion = registry.champion(task).name
    outcome = step(task, AT_ONCE)
    pointer = registry.deployment(task)
    assert (pointer["champion"], pointer["challenger"]) == (champion, outcome.version.name)
    assert pointer["history"][-1]["action"] == "challenger"
    (entry,) = read_state(task)["updates"]
    assert (entry["version"], entry["result"], entry["rules_broken"]) == (outcome.version.name, "challenger", [])
    assert step(task, AT_ONCE) is None  # nothing new was said
    registry.promote(task, outcome.version.name, by="a person", why="looks right")
    pointer = registry.deployment(task)
    assert (pointer["champion"], pointer["challenger"]) == (outcome.version.name, None)
    assert pointer["history"][-1] | {"time": ""} == {
        "action": "promoted", "version": outcome.version.name, "by": "a person", "why": "looks right", "time": "",
    }  # fmt: skip


def test_twenty_per_cent_random_labels_promote_nothing_worse(task, log, predictor):
    draw = np.random.default_rng(0)
    tested = Predictor.from_version(registry.champion(task))
    test = [pair for label in TINY_CLASSES for pair in unseen(label, 40, start=100)]

    def accuracy(version):
        answers = Predictor.from_version(version).predict([data for data, _ in test])
        return np.mean([answer.label == label for answer, (_, label) in zip(answers, test, strict=True)])

    before = accuracy(tested.version)
    for start in (30, 50, 70):
        pairs = [pair for label in TINY_CLASSES for pair in unseen(label, 20, start=start)]
        noisy = [(data, str(draw.choice(TINY_CLASSES)) if draw.random() < 0.2 else label) for data, label in pairs]
        taught(log, Predictor.from_version(registry.champion(task)), noisy)
        step(task, Settings(approval=False, triggers=AT_ONCE.triggers))
        assert accuracy(registry.champion(task)) >= before - 0.02


def test_labels_that_are_all_wrong_are_refused(task, log, predictor):
    wrong = {"Ankle boot": "Bag", "Bag": "Trouser", "Trouser": "Ankle boot"}
    for label in TINY_CLASSES:
        taught(log, predictor, [(data, wrong[label]) for data, _ in unseen(label, 60)])
    champion = registry.champion(task).name
    trusting = Settings(
        Sources(rules=learning.material.Rules(confidence=1.1)), approval=False, triggers=AT_ONCE.triggers
    )
    outcome = step(task, trusting)
    assert not outcome.gate.passed
    assert registry.deployment(task)["champion"] == champion
    assert read_state(task)["updates"][-1]["result"] == "refused"
    assert "was refused" in learning.worker.in_words(task, outcome)


def test_doubtful_labels_are_listed_for_a_person(task, log, predictor):
    (image, _), (other, _) = unseen("Bag", 2)
    taught(log, predictor, [(image, "Bag"), (image, "Trouser"), (other, "Bag")])
    step(task, AT_ONCE)
    table = read_table(reports_dir() / task / "quarantine.csv")
    assert table["reason"].tolist() == ["people gave it different labels"]


def test_while_an_experiment_runs_no_update_disturbs_it(task, some_labels):
    outcome = step(task, AT_ONCE, asked=True)
    experiments.start(task, outcome.version.name)
    assert step(task, AT_ONCE) is None
    with pytest.raises(ArtifactError, match="end it first"):
        step(task, AT_ONCE, asked=True)


def test_two_workers_or_the_pipeline_do_not_meet(task, some_labels):
    with lock(task_dir(task) / ".lock"), pytest.raises(LockedError):
        step(task, AT_ONCE)


def test_old_versions_are_pruned_but_never_those_in_use(task, log, predictor):
    champion = registry.champion(task).name
    for start in (30, 40, 50, 60):
        taught(log, predictor, [pair for label in TINY_CLASSES for pair in unseen(label, 2, start=start)])
        step(task, Settings(triggers=AT_ONCE.triggers, keep=1))
    names = registry.versions(task)
    assert champion in names
    assert len(names) <= 3


def test_the_merged_manifest_keeps_the_parts_and_adds_production(task, a_new_class):
    material = gather(task, Sources())
    manifest = pd.read_csv(write_merged(task, material))
    n = sum(len(part.labels) for part in (material.train, material.val, material.test))
    assert len(manifest) == n + len(material.additions)
    assert (manifest["label"] == NEW).sum() == 12
    added = manifest.iloc[n:]
    assert set(added["split"]) <= {"train", "test"}
    assert all((write_merged(task, material).parent / image).exists() for image in added["image"])


# The command line


def run(*arguments):
    """The command line in this process: its exit status."""
    return command.main(list(arguments))


def test_the_command_line_updates_lists_and_reviews(task, some_labels, capsys):
    assert run("--task", task) == 0
    told = capsys.readouterr().out
    assert "not clearly worse on the test images" in told
    assert "approve it with python -m lib.registry promote" in told
    assert run("--task", task, "--quarantine") == 0
    assert "15  believed" in capsys.readouterr().out
    image = gather(task, Sources()).additions["sha256"].iloc[0]
    assert run("--task", task, "--reject", image[:10]) == 0
    assert run("--task", task, "--reject", "") == 2
    assert "begins the SHA-256 of 15 labelled images" in capsys.readouterr().err
    assert run("--task", task, "--quarantine") == 0
    assert "1  left out: a person rejected it" in capsys.readouterr().out
    assert run("--task", task, "--accept", "Trouser", image) == 0
    assert gather(task, Sources()).additions.set_index("sha256").loc[image, "label"] == "Trouser"


def test_bad_usage_is_told_in_a_sentence(task, log, capsys):
    log.counts()
    assert run("--task", task) == 1
    assert "nothing new to learn" in capsys.readouterr().err
    assert run("--task", "no/task") == 2
    with pytest.raises(SystemExit):
        run("--task", task, "--reject")
    with pytest.raises(SystemExit):
        run("--task", task, "abc")


def worker(*options):
    """The worker as a process."""
    command = [
        sys.executable,
        "-m",
        "lib.learning",
        "--watch",
        "--every",
        "0.2",
        "--labels",
        "5",
        "--least-labels",
        "1",
    ]
    return subprocess.Popen(
        [*command, "--cooldown", "0", *options], cwd=PROJECT_ROOT, env=dict(os.environ), stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_worker_updates_beside_the_service_and_ends_in_good_order(task, log, predictor):
    process = worker("--no-approval")
    for label in TINY_CLASSES:
        taught(log, predictor, unseen(label, 5))
    wait_for(lambda: state_path(task).exists())
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert '"message": "Task tiny: update' in told
    assert log.counts() == (15, 15)


def test_where_the_data_have_changed_the_worker_trains_anew_if_nobody_has_to_approve(task, log, predictor):
    champion = registry.champion(task)
    for label in (*TINY_CLASSES, NEW):
        taught(log, predictor, unseen(label, 10))
    facts = read_json(task_dir(task) / "dataset.json")
    write_json(task_dir(task) / "dataset.json", facts | {"data_hash": "other"})
    process = worker("--no-approval", "--task", task)
    wait_for(lambda: registry.deployment(task)["champion"] != champion.name, seconds=240)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert "was trained on other data" in told
    after = registry.champion(task)
    assert NEW in after.card["classes"]
    assert after.lineage == {}


def test_a_killed_worker_loses_nothing_and_leaves_nothing_half_done(task, log, predictor):
    first = registry.champion(task).name
    for round_, delay in enumerate((0.0, 1.5, 2.5, 3.0, 3.5)):
        taught(log, predictor, [pair for label in TINY_CLASSES for pair in unseen(label, 3, start=30 + 3 * round_)])
        process = worker()
        time.sleep(delay)
        process.kill()
        process.communicate()
        for name in registry.versions(task):
            registry.evaluated(task, name)  # whole, or not there
        assert registry.champion(task).name == first
    process = worker()
    wait_for(lambda: registry.deployment(task)["challenger"] is not None)
    wait_for(lambda: state_path(task).exists() and read_state(task)["number"] == 45)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert log.counts() == (45, 45)
    material = gather(task, Sources())
    assert len(material.audited) == 45
    assert len(material.additions) == (material.audited["state"] == BELIEVED).sum() > 40
