import numpy as np

from lib.estimates import Estimate


def test_estimates_are_plain_floats_in_json():
    values = Estimate(np.float32(0.5), np.float64(0), 1).to_json()
    assert values == {"value": 0.5, "low": 0.0, "high": 1.0}
    assert {type(value) for value in values.values()} == {float}


def test_a_difference_of_accuracies_is_told_in_points():
    assert Estimate(0.0641, 0.0119, 0.0771).points() == "+6.4 points (+1.2 to +7.7)"
    assert Estimate(-0.02, -0.05, 0.01).points() == "-2.0 points (-5.0 to +1.0)"


def test_an_estimate_is_told_with_its_interval():
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 (95 % CI 0.250 to 0.750)"
