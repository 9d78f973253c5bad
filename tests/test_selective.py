import numpy as np
import pytest

from lib.selective import abstain_threshold, risk_coverage

RIGHT = np.array([True, True, False, True, False])
CONFIDENCE = np.array([0.9, 0.8, 0.7, 0.6, 0.5])


def test_accuracy_is_that_of_the_most_confident_answers():
    table = risk_coverage(RIGHT, CONFIDENCE)
    assert table["coverage"].tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert table["accuracy"].tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert table["threshold"].tolist() == CONFIDENCE.tolist()
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()


def test_order_does_not_count_and_many_images_are_thinned():
    draw = np.random.default_rng(0)
    confidence = draw.random(500)
    right = draw.random(500) < confidence
    table, shuffled = (
        risk_coverage(right[order], confidence[order]) for order in (np.arange(500), draw.permutation(500))
    )
    assert len(table) == 40
    assert table["accuracy"].tolist() == shuffled["accuracy"].tolist()
    assert table["accuracy"].iloc[-1] == right.mean()


@pytest.mark.parametrize(("target", "threshold"), [(0.9, 0.8), (0.75, 0.6), (0.6, 0.5), (0.0, 0.5)])
def test_the_threshold_answers_as_much_as_the_target_allows(target, threshold):
    assert abstain_threshold(RIGHT, CONFIDENCE, target) == threshold


def test_no_threshold_reaches_what_no_answer_reaches():
    assert abstain_threshold(np.array([False, False]), np.array([0.9, 0.8]), 0.5) == float("inf")
    assert abstain_threshold(np.zeros(0, dtype=bool), np.zeros(0), 0.5) == float("inf")


def test_equal_confidences_stand_or_fall_together():
    right, confidence = np.array([True, False, True]), np.array([0.9, 0.9, 0.9])
    assert abstain_threshold(right, confidence, 0.6) == 0.9
    assert abstain_threshold(right, confidence, 0.7) == float("inf")
