from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from synthetic import LABELS, PROBA

from lib import gate
from lib.errors import ArtifactError
from lib.forgetting import BeforeAfter
from lib.metrics import Estimate

CARD = {"classes": ["a", "b"], "data": {"hash": "h"}, "backbone": {"fingerprint": "f"}}


def test_macro_f1_of_the_majority_class_by_hand():
    # Always "a": precision 3/5, recall 1, F1 = 2 * 3/5 / (8/5) = 3/4; the other classes 0.
    assert gate.majority_macro_f1(LABELS, 3) == pytest.approx(0.75 / 3)
    expected = f1_score(LABELS, np.zeros(5, int), labels=range(3), average="macro", zero_division=0)
    assert gate.majority_macro_f1(LABELS, 3) == pytest.approx(expected)


@pytest.mark.parametrize(("passed", "whole"), [([True, True], True), ([True, False], False), ([False, False], False)])
def test_a_gate_is_passed_when_every_rule_holds(passed, whole):
    held = gate.Gate(pd.DataFrame({"rule": ["first", "second"], "value": "", "passed": passed}))
    assert held.passed is whole


@pytest.mark.parametrize(("low", "passed"), [(0.251, True), (0.249, False), (0.1, False)])
def test_a_first_version_must_beat_the_majority_class_for_sure(low, passed):
    test = SimpleNamespace(labels=LABELS, classes=["a", "b", "absent"], facts={"task": "birds"})
    version = SimpleNamespace(name="v1", card={})
    held = gate.promotion_gate(test, version, PROBA, Estimate(0.9, low, 1.0), 1 - LABELS)
    assert held.passed is passed
    told = [f"{low:.3f} > 0.250", "+60.0 points (+17.1 to +102.9)", "no other champion", "none is missing"]
    assert held.table["value"].tolist() == told


def part(labels, **changed):
    """A test part whose vectors are taken as they are."""
    values = {
        "labels": labels,
        "classes": ["a", "b"],
        "facts": {"task": "birds"},
        "vectors_for": lambda predictor: None,
    }
    return SimpleNamespace(**values | changed)


def champion_of(card=CARD):
    """A champion, as far as the gate reads it."""
    return SimpleNamespace(name="v1", card=card, lineage=card.get("lineage", {}))


def serve(monkeypatch, champion, predicted):
    """A registry whose champion answers so."""
    monkeypatch.setattr(gate.registry, "deployment", lambda task: {"champion": champion.name})
    monkeypatch.setattr(gate.registry, "versions", lambda task: [champion.name])
    monkeypatch.setattr(gate.registry, "verify", lambda task, name: champion)
    predictor = SimpleNamespace(proba=lambda vectors: np.eye(2)[predicted])
    monkeypatch.setattr(gate.Predictor, "from_version", lambda version: predictor)


@pytest.mark.parametrize(("n_worse", "passed"), [(0, True), (2, True), (20, False)])
def test_a_version_must_not_be_clearly_worse_than_the_champion(monkeypatch, n_worse, passed):
    labels = np.arange(100) % 2
    serve(monkeypatch, champion_of(), labels)
    test = part(labels)
    ours = labels.copy()
    ours[:n_worse] = 1 - ours[:n_worse]
    held = gate.promotion_gate(
        test, SimpleNamespace(name="v2", card=CARD), np.eye(2)[ours], Estimate(0.9, 0.8, 1.0), 1 - labels
    )
    assert held.passed is passed
    assert "against v1" in held.table["value"][2]


def test_a_champion_of_another_split_is_not_compared(monkeypatch):
    labels = np.arange(100) % 2
    serve(monkeypatch, champion_of(CARD | {"data": {"hash": "i"}}), labels)
    test = part(labels)
    version = SimpleNamespace(name="v2", card=CARD)
    held = gate.promotion_gate(test, version, np.eye(2)[1 - labels], Estimate(0.9, 0.8, 1.0), 1 - labels)
    assert "not comparable" in held.table["value"][2]
    assert held.passed


@pytest.mark.parametrize(("taught", "passed"), [([], True), (["c"], False)])
def test_classes_that_people_taught_are_not_lost_unawares(monkeypatch, taught, passed):
    labels = np.arange(100) % 2
    card = CARD | {"classes": ["a", "b", "c"], "lineage": {"taught_classes": taught}}
    serve(monkeypatch, champion_of(card), labels)
    test = part(labels)
    version = SimpleNamespace(name="v2", card=CARD)
    held = gate.promotion_gate(test, version, np.eye(2)[labels], Estimate(0.9, 0.8, 1.0), 1 - labels)
    assert held.passed is passed
    assert held.table["value"][3].startswith("none is missing" if passed else "lacks c; python -m lib.learning")


def test_a_champion_on_another_backbone_answers_on_its_own_vectors(monkeypatch):
    labels, own = np.arange(100) % 2, object()
    serve(monkeypatch, champion_of(CARD | {"backbone": {"fingerprint": "g"}}), labels)
    predictor = SimpleNamespace(proba=lambda given: np.eye(2)[labels if given is own else 1 - labels])
    monkeypatch.setattr(gate.Predictor, "from_version", lambda version: predictor)
    test = part(labels, vectors_for=lambda asked: own if asked is predictor else None)
    version = SimpleNamespace(name="v2", card=CARD)
    held = gate.promotion_gate(test, version, np.eye(2)[1 - labels], Estimate(0.9, 0.8, 1.0), 1 - labels)
    assert held.table["value"][2].startswith("-100.0 points")
    assert not held.passed


def stand_in(tmp_path, name, data_hash):
    """A version's card alone, for what the gate reads of it."""
    card = {"classes": ["a", "b"], "data": {"hash": data_hash}, "backbone": {"fingerprint": "f"}}
    return SimpleNamespace(name=name, card=card)


@pytest.mark.parametrize(
    ("champion_hash", "damaged", "said"),
    [
        ("other", False, "another split: not comparable"),
        ("same", True, "cannot be loaded"),
        ("same", False, "f is missing"),
    ],
)
def test_a_champion_that_cannot_be_compared_does_not_stop_the_gate(tmp_path, monkeypatch, champion_hash, damaged, said):
    def verify(task, name):
        if damaged:
            raise ArtifactError("damaged")
        return stand_in(tmp_path, name, champion_hash)

    def load(version):
        raise ArtifactError("backbone f is missing")

    monkeypatch.setattr(gate.registry, "deployment", lambda task: {"champion": "old"})
    monkeypatch.setattr(gate.registry, "verify", verify)
    monkeypatch.setattr(gate.Predictor, "from_version", load)
    test = part(np.array([0, 1]))
    shown, passed = gate._against_champion(test, stand_in(tmp_path, "new", "same"), np.eye(2))
    assert said in shown
    assert passed


@pytest.mark.parametrize(("n_worse", "passed"), [(0, True), (2, True), (20, False)])
def test_a_version_must_not_be_clearly_worse_than_the_nearest_centroid(n_worse, passed):
    labels = np.arange(100) % 2
    test = part(labels, facts={"task": "never-promoted"})
    ours = labels.copy()
    ours[:n_worse] = 1 - ours[:n_worse]
    version = SimpleNamespace(name="v1", card=CARD)
    held = gate.promotion_gate(test, version, np.eye(2)[ours], Estimate(0.9, 0.8, 1.0), labels)
    assert held.passed is passed
    assert held.table["value"][1].startswith(f"{-n_worse:+.1f} points")


def both(n, before_wrong=(), after_wrong=(), *, n_classes=2):
    """n images of two classes by turns, some answered wrong before and some after."""
    labels = np.arange(n) % 2
    answers = []
    for wrong in (before_wrong, after_wrong):
        answer = labels.copy()
        answer[list(wrong)] = 1 - answer[list(wrong)]
        answers.append(np.eye(n_classes)[answer])
    return BeforeAfter(labels, answers[0][:, :2], answers[1], ["a", "b", "new"][:n_classes])


def broken(test, held=None, milliseconds=(0.1, 0.1)):
    """The rules that an update breaks."""
    table = gate.update_gate(test, held or both(0), milliseconds, gate.Margins()).table
    return table.loc[~table["passed"].astype(bool), "rule"].tolist()


def test_an_update_that_changes_nothing_passes():
    assert broken(both(100, [3], [3])) == []


def test_an_update_may_not_lose_accuracy():
    assert broken(both(1000, [], range(0, 20, 2))) == ["not clearly worse on the test images"]
    assert broken(both(300, [0], [1, 2, 3, 4, 5])) == ["loses at most 1.0 points on them, or two images"]
    assert broken(both(100, [], [0, 1])) == []


def test_no_class_may_pay_for_the_others():
    test = both(80, [1, 3, 5, 7, 9, 11], [0, 2, 4, 6, 8])  # one class better by six images, the other worse by five
    assert broken(test) == ["no class clearly loses more than 10 points"]
    assert broken(both(20, [1, 3], [0, 2])) == []  # two images of ten are no sign


def test_feedback_that_was_held_back_judges_too():
    assert broken(both(100), both(100, [], range(10))) == ["not clearly worse on feedback that was held back"]


@pytest.mark.parametrize(("n_right", "passed"), [(0, False), (2, True)])
def test_a_new_class_must_be_recognised(n_right, passed):
    n = 6
    after = np.eye(3)[[2] * n_right + [0] * (n - n_right)]
    held = BeforeAfter(np.full(n, 2), np.eye(2)[[0] * n], after, ["a", "b", "new"])
    assert (broken(both(100, n_classes=3), held) == []) is passed


def test_confidence_must_stay_true_and_the_classifier_fast():
    test = both(100)
    doubtful = BeforeAfter(test.labels, test.before, 0.6 * test.after + 0.2, test.classes)
    assert broken(doubtful) == ["calibration error not clearly larger, or by at most 0.02"]
    assert broken(test, milliseconds=(0.1, 1.2)) == ["classifies at most 1 ms slower"]


def test_rules_become_plain_values():
    rows = gate.update_gate(both(10), both(0), (0.1, 0.1), gate.Margins()).to_json()
    assert all(type(row["passed"]) is bool and set(row) == {"rule", "value", "passed"} for row in rows)
