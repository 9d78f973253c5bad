import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from lib import evaluation
from lib.appearance import MEASURES, Appearance
from lib.errors import ArtifactError, DataError
from lib.metrics import Estimate

CLASSES = ["a", "b", "absent"]
LABELS = np.array([0, 0, 0, 1, 1])
PROBA = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0], [0.95, 0.05, 0.0]])
MANIFEST = pd.DataFrame(
    {
        "sha256": list("vwxyz"),
        "path": [f"{name}.png" for name in "vwxyz"],
        "split": "test",
        "label": ["a", "a", "a", "b", "b"],
        "width": 28,
    },
    index=[7, 3, 9, 1, 5],
)


@pytest.fixture
def predictions():
    return evaluation.predictions_table(MANIFEST, PROBA, CLASSES)


def test_scores_of_a_split_by_hand():
    scores = evaluation.score(LABELS, PROBA, CLASSES, seed=0)
    assert set(scores) == {"n", "accuracy", "macro_f1", "ece", "brier", "log_loss", "classes"}
    assert scores["n"] == 5
    assert scores["accuracy"]["value"] == 3 / 5
    # F1: a 2 * 2 / (3 + 3), b 2 * 1 / (2 + 2), absent 0.
    assert scores["macro_f1"]["value"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores["classes"]["b"]["f1"] == 1 / 2
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.6, 0.2, 0.9, 0.05]).mean())


def test_scores_are_json_and_what_does_not_exist_is_null():
    scores = evaluation.score(LABELS, PROBA, CLASSES, seed=0)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    absent = scores["classes"]["absent"]
    assert absent["n"] == 0
    assert (absent["precision"], absent["recall"], absent["f1"]) == (None, None, None)
    assert (absent["f1_low"], absent["f1_high"]) == (0, 1)


def test_float32_probabilities_give_json_too():
    assert json.dumps(evaluation.score(LABELS, PROBA.astype(np.float32), CLASSES, seed=0), allow_nan=False)


def test_predictions_have_a_row_an_image_and_a_probability_a_class(predictions):
    columns = [*evaluation.PREDICTION_COLUMNS, "proba: a", "proba: b", "proba: absent"]
    assert list(predictions.columns) == columns
    assert predictions["path"].tolist() == MANIFEST["path"].tolist()
    assert predictions["predicted"].tolist() == ["a", "a", "b", "b", "a"]
    assert predictions["probability"].tolist() == [0.8, 0.6, 0.7, 0.9, 0.95]
    np.testing.assert_array_equal(predictions[columns[-3:]], PROBA)
    assert list(MANIFEST.columns) == ["sha256", "path", "split", "label", "width"]


def test_a_class_may_be_called_like_a_column(predictions):
    table = evaluation.predictions_table(MANIFEST, PROBA, ["label", "n", "path"])
    assert table.columns.is_unique
    assert table["predicted"].tolist() == ["label", "label", "n", "n", "label"]


def test_mistakes_come_most_confident_first(predictions):
    wrong = evaluation.mistakes(predictions)
    assert wrong["path"].tolist() == ["z.png", "x.png"]
    assert list(wrong.columns) == evaluation.PREDICTION_COLUMNS
    assert wrong.index.tolist() == [0, 1]


def test_without_mistakes_the_table_is_empty_and_has_its_columns(predictions):
    wrong = evaluation.mistakes(predictions[predictions["label"] == predictions["predicted"]])
    assert wrong.empty
    assert list(wrong.columns) == evaluation.PREDICTION_COLUMNS


def test_macro_f1_of_the_majority_class_by_hand():
    # Always "a": precision 3/5, recall 1, F1 = 2 * 3/5 / (8/5) = 3/4; the other classes 0.
    assert evaluation.majority_macro_f1(LABELS, 3) == pytest.approx(0.75 / 3)
    expected = f1_score(LABELS, np.zeros(5, int), labels=range(3), average="macro", zero_division=0)
    assert evaluation.majority_macro_f1(LABELS, 3) == pytest.approx(expected)


@pytest.mark.parametrize(("passed", "whole"), [([True, True], True), ([True, False], False), ([False, False], False)])
def test_a_gate_is_passed_when_every_rule_holds(passed, whole):
    gate = evaluation.Gate(pd.DataFrame({"rule": ["first", "second"], "value": "", "passed": passed}))
    assert gate.passed is whole


@pytest.mark.parametrize(("low", "passed"), [(0.251, True), (0.249, False), (0.1, False)])
def test_a_first_version_must_beat_the_majority_class_for_sure(low, passed):
    test = SimpleNamespace(labels=LABELS, classes=CLASSES, facts={"task": "birds"})
    version = SimpleNamespace(name="v1", card={})
    gate = evaluation.promotion_gate(test, version, PROBA, Estimate(0.9, low, 1.0))
    assert gate.passed is passed
    assert gate.table["value"].tolist() == [f"{low:.3f} > 0.250", "no other champion"]


def serve(monkeypatch, champion, predicted):
    """A registry whose champion answers so."""
    monkeypatch.setattr(evaluation.registry, "deployment", lambda task: {"champion": champion.name})
    monkeypatch.setattr(evaluation.registry, "versions", lambda task: [champion.name])
    monkeypatch.setattr(evaluation.registry, "verify", lambda task, name: champion)
    predictor = SimpleNamespace(proba=lambda vectors: np.eye(2)[predicted])
    monkeypatch.setattr(evaluation.Predictor, "from_version", lambda version: predictor)


CARD = {"classes": ["a", "b"], "data": {"hash": "h"}, "backbone": {"fingerprint": "f"}}


@pytest.mark.parametrize(("n_worse", "passed"), [(0, True), (2, True), (20, False)])
def test_a_version_must_not_be_clearly_worse_than_the_champion(monkeypatch, n_worse, passed):
    labels = np.arange(100) % 2
    serve(monkeypatch, SimpleNamespace(name="v1", card=CARD), labels)
    test = SimpleNamespace(labels=labels, classes=["a", "b"], facts={"task": "birds"}, vectors=None)
    ours = labels.copy()
    ours[:n_worse] = 1 - ours[:n_worse]
    gate = evaluation.promotion_gate(
        test, SimpleNamespace(name="v2", card=CARD), np.eye(2)[ours], Estimate(0.9, 0.8, 1.0)
    )
    assert gate.passed is passed
    assert "against v1" in gate.table["value"][1]


@pytest.mark.parametrize("change", [{"classes": ["a", "c"]}, {"data": {"hash": "i"}}])
def test_a_champion_of_other_classes_or_split_is_not_compared(monkeypatch, change):
    labels = np.arange(100) % 2
    serve(monkeypatch, SimpleNamespace(name="v1", card=CARD | change), labels)
    test = SimpleNamespace(labels=labels, classes=["a", "b"], facts={"task": "birds"}, vectors=None)
    version = SimpleNamespace(name="v2", card=CARD)
    gate = evaluation.promotion_gate(test, version, np.eye(2)[1 - labels], Estimate(0.9, 0.8, 1.0))
    assert "not comparable" in gate.table["value"][1]
    assert gate.passed


def test_a_champion_on_another_backbone_answers_on_its_own_vectors(monkeypatch):
    labels = np.arange(100) % 2
    serve(monkeypatch, SimpleNamespace(name="v1", card=CARD | {"backbone": {"fingerprint": "g"}}), labels)
    encoder, own = object(), object()
    predictor = SimpleNamespace(encoder=encoder, proba=lambda given: np.eye(2)[labels if given is own else 1 - labels])
    monkeypatch.setattr(evaluation.Predictor, "from_version", lambda version: predictor)
    asked = []

    def embed(*arguments):
        asked.append(arguments)
        return SimpleNamespace(vectors=own)

    monkeypatch.setattr(evaluation, "embed", embed)
    manifest = pd.DataFrame({"path": ["x"], "sha256": ["y"]})
    test = SimpleNamespace(
        labels=labels, classes=["a", "b"], facts={"task": "birds"}, vectors=None, manifest=manifest, root="r"
    )
    version = SimpleNamespace(name="v2", card=CARD)
    gate = evaluation.promotion_gate(test, version, np.eye(2)[1 - labels], Estimate(0.9, 0.8, 1.0))
    assert gate.table["value"][1].startswith("-100.0 points")
    assert not gate.passed
    assert asked[0][3] is encoder


def test_a_task_without_test_images_says_what_to_raise(monkeypatch):
    test = SimpleNamespace(labels=np.array([], int), facts={"data_hash": "h"})
    monkeypatch.setattr(evaluation, "load_task", lambda task, splits: test)
    with pytest.raises(DataError, match=r"'birds' has no test image; raise `test_fraction`"):
        evaluation.open_test_split("birds", SimpleNamespace(name="v1", card=CARD))


def test_a_version_of_another_split_is_not_scored(monkeypatch):
    test = SimpleNamespace(labels=np.array([0, 1]), facts={"data_hash": "drawn anew"})
    monkeypatch.setattr(evaluation, "load_task", lambda task, splits: test)
    with pytest.raises(DataError, match="another split"):
        evaluation.open_test_split("birds", SimpleNamespace(name="v1", card=CARD))


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

    monkeypatch.setattr(evaluation.registry, "deployment", lambda task: {"champion": "old"})
    monkeypatch.setattr(evaluation.registry, "verify", verify)
    monkeypatch.setattr(evaluation.Predictor, "from_version", load)
    test = SimpleNamespace(facts={"task": "t"}, labels=np.array([0, 1]), vectors=np.zeros((2, 1)))
    shown, passed = evaluation._against_champion(test, stand_in(tmp_path, "new", "same"), np.eye(2))
    assert said in shown
    assert passed


@pytest.mark.parametrize(
    ("backbone", "tolerance"),
    [
        ({}, 1e-5),
        ({"runtime": "onnxruntime", "precision": "int8"}, 1e-5),
        ({"runtime": "torch", "precision": "fp32"}, 1e-3),
        ({"runtime": "torch", "precision": "fp16"}, 5e-2),
    ],
)
def test_what_serves_is_exactly_what_was_evaluated_unless_a_gpu_made_the_vectors(backbone, tolerance):
    assert evaluation.served_tolerance({"backbone": backbone}) == tolerance


def test_every_opening_of_the_same_test_part_is_counted():
    def version(name, data):
        return SimpleNamespace(name=name, card={"data": {"hash": data}})

    counts = [
        len(evaluation.record_opening("t", version(*which)))
        for which in (("v1", "a"), ("v1", "a"), ("v2", "b"), ("v3", "a"))
    ]
    assert counts == [1, 2, 1, 3]
    assert {opening["version"] for opening in evaluation.record_opening("t", version("v4", "a"))} == {"v1", "v3", "v4"}


def test_slices_are_quarters_with_their_accuracy_and_what_does_not_vary_is_not_cut():
    n = 80
    manifest = pd.DataFrame({"width": 40, "height": 30}, index=range(n))
    measures = pd.DataFrame(0.5, index=range(n), columns=MEASURES).assign(brightness=np.arange(n) / n)
    right = np.arange(n) >= 20  # the darkest quarter is wrong
    table = evaluation.slices(manifest, measures, right)
    assert set(table["slice"]) == {"brightness"}
    assert table["n"].tolist() == [20, 20, 20, 20]
    assert table["accuracy"].tolist() == [0, 1, 1, 1]
    assert table["range"].iloc[0] == "0.00 to 0.25"


def test_the_first_file_does_not_count_in_the_time_an_answer_takes():
    seen = []
    times = evaluation.latencies(SimpleNamespace(predict=seen.append), [b"1", b"2", b"3"])
    assert seen == [[b"1"], [b"2"], [b"3"]]
    assert times.shape == (2,)
    assert (times >= 0).all()


def test_without_validation_images_there_is_no_probability_to_choose_by(monkeypatch):
    empty = SimpleNamespace(labels=np.zeros(0, dtype=int), vectors=np.zeros((0, 4), dtype=np.float32))
    monkeypatch.setattr(evaluation, "load_task", lambda task, splits: empty)
    labels, proba = evaluation.validation_part("t", SimpleNamespace(classes=["a", "b"]))
    assert (labels.shape, proba.shape) == ((0,), (0, 2))


def test_a_test_image_with_a_near_copy_in_training_does_not_stand_apart(monkeypatch):
    draw = np.random.default_rng(0)
    n = 30
    manifest = pd.DataFrame(
        {"sha256": [f"{i}" for i in range(n)], "path": [f"{i}.png" for i in range(n)], "label": "a"}
    )
    manifest["split"] = ["test"] * 10 + ["train"] * 15 + ["val"] * 5
    vectors, looks = draw.normal(size=(n, 20)), draw.random((n, Appearance().dim))
    vectors[12] = vectors[3] + 0.05  # a training image beside test image 3
    vectors[27] = vectors[5] + 0.05  # a validation image beside test image 5: no leak into training
    everything = SimpleNamespace(manifest=manifest, vectors=vectors, root=None)
    monkeypatch.setattr(evaluation, "load_task", lambda task, splits: everything)
    monkeypatch.setattr(evaluation, "embed", lambda *chosen: SimpleNamespace(vectors=looks))
    apart = evaluation.apart_from_training("t", SimpleNamespace(manifest=manifest[:10]))
    assert np.flatnonzero(~apart).tolist() == [3]


def test_the_score_without_near_copies_is_null_where_no_image_is_left():
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    found = evaluation.score_apart(labels, predicted, np.array([True, False, True]))
    assert (found["n"], found["accuracy"]["value"]) == (2, 1.0)
    assert evaluation.score_apart(labels, predicted, np.zeros(3, dtype=bool)) == {"n": 0, "accuracy": None}
