import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic import CLASSES, LABELS, MANIFEST, PROBA

from lib import evaluation
from lib.appearance import MEASURES
from lib.errors import DataError


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


def test_the_headline_tells_the_accuracy_with_and_without_near_copies():
    scores = evaluation.score(LABELS, PROBA, CLASSES, seed=0)
    scores["apart"] = evaluation.score_apart(LABELS, PROBA.argmax(axis=1), np.array([True, True, False, True, False]))
    first, second = evaluation.headline(scores)
    assert first.startswith("Accuracy 0.600 (95 % CI 0.231 to 0.882), macro-F1 0.389")
    assert second.startswith("Without the 2 images that have a near copy in training: 1.000")
    scores["apart"] = evaluation.score_apart(LABELS, PROBA.argmax(axis=1), np.zeros(5, dtype=bool))
    assert evaluation.headline(scores)[1].endswith("none is left, n = 0.")
    scores["apart"] = evaluation.score_apart(LABELS, PROBA.argmax(axis=1), np.ones(5, dtype=bool))
    assert evaluation.headline(scores)[1] == "No test image has a near copy in training."


def test_openings_are_told_in_words():
    assert evaluation.told_openings([{"version": "v1"}]).endswith("opened 1 time, for 1 version.")
    assert evaluation.told_openings([{"version": "v1"}] * 2).endswith("opened 2 times, for 1 version.")


def test_confidence_above_accuracy_is_told_as_over_confident():
    scores = {"ece": 0.1, "brier": 0.2, "log_loss": 0.3}
    proba = np.full((4, 2), 0.5)
    proba[:] = [0.9, 0.1]
    assert "over-confident by 40.0 points" in evaluation.told_confidence(scores, proba, np.array([1, 1, 0, 0], bool))[0]
    assert "under-confident by 10.0 points" in evaluation.told_confidence(scores, proba, np.ones(4, dtype=bool))[0]


def test_slices_clear_of_the_average_are_named():
    rows = [("brightness", "0 to 1", 40, 0.5, 0.4, 0.6), ("contrast", "1 to 2", 40, 0.8, 0.7, 0.9),
            ("sharpness", "2 to 3", 40, 0.95, 0.9, 0.99)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["slice", "range", "n", "accuracy", "low", "high"])
    said = evaluation.weak_slices(table, 0.8)
    assert "Weaker: brightness 0 to 1 (0.500, n = 40). Stronger: sharpness 2 to 3 (0.950, n = 40);" in said
    assert "contrast" not in said
    assert evaluation.weak_slices(table[1:2], 0.8).startswith("None of the 1 slices")


def test_contenders_stand_beside_each_other_with_intervals():
    table = evaluation.contenders_table(LABELS, {"ours": LABELS, "none": 1 - LABELS}, 2, seed=0)
    assert table["classifier"].tolist() == ["ours", "none"]
    assert table["accuracy"][0].startswith("1.000 (95 % CI 0.566")
    assert table["macro-F1"][1].startswith("0.000")


CARD = {"classes": ["a", "b"], "data": {"hash": "h"}, "backbone": {"fingerprint": "f"}}


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
    assert table["range"].iloc[0] == "0 to 0.25"


def test_the_first_file_does_not_count_in_the_time_an_answer_takes():
    seen = []
    times = evaluation.latencies(SimpleNamespace(predict=seen.append), [b"1", b"2", b"3"])
    assert seen == [[b"1"], [b"2"], [b"3"]]
    assert times.shape == (2,)
    assert (times >= 0).all()


def test_without_validation_images_there_is_no_probability_to_choose_by(monkeypatch):
    empty = SimpleNamespace(labels=np.zeros(0, dtype=int), vectors=np.zeros((0, 4), dtype=np.float32))
    monkeypatch.setattr(evaluation, "load_task", lambda task, splits: empty)
    val, proba = evaluation.validation_part("t", SimpleNamespace(classes=["a", "b"]))
    assert val is empty
    assert proba.shape == (0, 2)


def test_the_score_without_near_copies_is_null_where_no_image_is_left():
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    found = evaluation.score_apart(labels, predicted, np.array([True, False, True]))
    assert (found["n"], found["accuracy"]["value"]) == (2, 1.0)
    assert evaluation.score_apart(labels, predicted, np.zeros(3, dtype=bool)) == {"n": 0, "accuracy": None}


def test_sizes_are_counted_with_their_coverage():
    sets = np.array([[1, 0], [1, 0], [1, 1]], dtype=bool)
    table = evaluation.set_sizes(sets, np.array([0, 1, 1]))
    assert table[["size", "n", "coverage"]].to_numpy().tolist() == [[1, 2, 0.5], [2, 1, 1.0]]
