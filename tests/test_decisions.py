import pytest

from lib.decisions import Thresholds

CHOSEN = Thresholds(0.8, 0.95, 0.1, 0.9, 0.3)


@pytest.mark.parametrize(
    ("probability", "distance", "decision"),
    [
        (0.8, 0.3, "accepted"),
        (0.79, 0.3, "unsure"),
        (1.0, 0.31, "unknown"),
        (0.1, 0.31, "unknown"),
        (0.9, None, "accepted"),
    ],
)
def test_an_answer_is_judged_by_distance_first_and_then_by_probability(probability, distance, decision):
    assert CHOSEN.decide(probability, distance) == decision


def test_where_no_probability_was_good_enough_every_answer_is_unsure():
    assert Thresholds(None, 0.95, 0.1, 0.9).decide(1.0, None) == "unsure"


def test_a_version_evaluated_before_there_was_a_novelty_threshold_tells_nothing_as_unknown():
    values = {"abstain_threshold": 0.5, "target_accuracy": 0.9, "conformal_threshold": 0.2, "conformal_coverage": 0.9}
    assert Thresholds.from_metrics({"decision": values}).decide(0.9, 2.0) == "accepted"


def test_thresholds_survive_metrics_json():
    assert Thresholds.from_metrics({"decision": CHOSEN.to_json()}) == CHOSEN
    assert Thresholds.from_metrics({"selection": {}}) is None
