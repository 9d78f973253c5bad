from math import comb, log, sqrt

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from lib import metrics

EMPTY = np.array([], dtype=int)


def draw(n, n_classes, seed, hit_rate=0.7):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, n_classes, n)
    return y_true, np.where(rng.random(n) < hit_rate, y_true, rng.integers(0, n_classes, n))


def test_wilson_interval_of_eight_in_ten():
    z, share, n = 1.959963984540054, 0.8, 10
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    estimate = metrics.proportion(8, 10)
    assert estimate.value == 0.8
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half))
    assert str(estimate) == "0.800 (95 % CI 0.490 to 0.943)"


def test_wilson_interval_stays_inside_0_and_1_at_the_ends():
    none, all_of_them = metrics.proportion(0, 10), metrics.proportion(10, 10)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1.959964**2 / (10 + 1.959964**2), abs=1e-6)
    assert (all_of_them.low, all_of_them.high) == pytest.approx((1 - none.high, 1))


def test_a_change_of_calibration_is_seen_where_it_is_clear():
    y = np.arange(400) % 2
    true = np.where(np.arange(400) % 5 < 4, 0.8, 0.2)[:, None] * np.eye(2)[y] + 0.0
    true[np.arange(400), 1 - y] = 1 - true[np.arange(400), y]
    sure = np.clip(3 * (true - 0.5) + 0.5, 0, 1)
    change = metrics.calibration_change(y, true, sure)
    assert change.value == pytest.approx(0.2)
    assert 0 < change.low < change.value < change.high
    same = metrics.calibration_change(y, true, true)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    few = metrics.calibration_change(y[:10], true[:10], sure[:10])
    assert few.high - few.low > change.high - change.low


def test_accuracy_counts_right_answers():
    assert metrics.accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == metrics.proportion(3, 4)


def test_confusion_counts_have_true_classes_as_rows():
    counts = metrics.confusion_counts(np.array([0, 0, 2]), np.array([1, 0, 2]), 3)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_macro_f1_by_hand():
    # Class 0: precision 2/3, recall 1, F1 4/5; class 1: precision 1, recall 1/2, F1 2/3.
    estimate = metrics.macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), 2)
    assert estimate.value == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert estimate.low <= estimate.value <= estimate.high


def test_a_class_nobody_met_counts_zero_in_macro_f1():
    y = np.array([0, 1, 0, 1])
    assert metrics.macro_f1(y, y, 4) == metrics.Estimate(0.5, pytest.approx(0.5, abs=0.26), 0.5)


def test_f1_resamples_agree_with_resampling_the_images():
    y_true, y_pred = draw(80, 3, seed=1)
    fast = metrics.f1_resamples(y_true, y_pred, 3, n_resamples=2000, seed=0)
    rng = np.random.default_rng(5)
    slow = []
    for _ in range(300):
        few = rng.integers(0, 80, 80)
        slow.append(f1_score(y_true[few], y_pred[few], labels=range(3), average=None, zero_division=0))
    assert fast.shape == (2000, 3)
    np.testing.assert_allclose(fast.mean(axis=0), np.mean(slow, axis=0), atol=0.02)
    np.testing.assert_allclose(fast.std(axis=0), np.std(slow, axis=0), atol=0.015)


def test_f1_resamples_of_many_classes_need_no_table_of_all_pairs():
    y_true = np.arange(3000) % 1500
    resamples = metrics.f1_resamples(y_true, y_true, 1500, n_resamples=2, seed=0)  # all pairs: 36 MB a resample
    assert set(np.unique(resamples)) == {0.0, 1.0}


def test_the_bootstrap_interval_covers_the_true_macro_f1():
    # Symmetric errors: the population's F1 is the hit rate in every class, 0.7 + 0.3 / 3.
    trials = [metrics.macro_f1(*draw(150, 3, seed), 3, n_resamples=300, seed=seed) for seed in range(150)]
    covered = np.mean([trial.low <= 0.8 <= trial.high for trial in trials])
    assert 0.88 <= covered <= 1.0
    assert np.mean([trial.high - trial.low for trial in trials]) < 0.15


def test_the_same_seed_gives_the_same_interval():
    y_true, y_pred = draw(50, 3, seed=0)
    assert metrics.macro_f1(y_true, y_pred, 3, seed=4) == metrics.macro_f1(y_true, y_pred, 3, seed=4)
    assert metrics.macro_f1(y_true, y_pred, 3, seed=4) != metrics.macro_f1(y_true, y_pred, 3, seed=5)


def test_scores_a_class_by_hand():
    table = metrics.per_class_table(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["a", "b"]).set_index("label")
    assert table["n"].to_dict() == {"a": 3, "b": 1}
    assert table["precision"].to_dict() == {"a": 1.0, "b": 0.5}
    assert table["recall"].to_dict() == pytest.approx({"a": 2 / 3, "b": 1.0})
    assert table["f1"].to_dict() == pytest.approx({"a": 4 / 5, "b": 2 / 3})
    recall = metrics.proportion(2, 3)
    assert (table.loc["a", "recall_low"], table.loc["a", "recall_high"]) == (recall.low, recall.high)


def test_scores_of_an_absent_class_do_not_exist():
    table = metrics.per_class_table(np.array([0, 1]), np.array([0, 1]), ["a", "b", "absent"]).set_index("label")
    absent = table.loc["absent"]
    assert absent["n"] == 0
    for name in ("precision", "recall", "f1"):
        assert np.isnan(absent[name])
        assert (absent[f"{name}_low"], absent[f"{name}_high"]) == (0, 1)


def test_a_class_only_ever_answered_wrongly_has_f1_zero_and_no_recall():
    row = metrics.per_class_table(np.array([0, 0]), np.array([0, 1]), ["a", "b"]).iloc[1]
    assert (row["n"], row["precision"], row["f1"]) == (0, 0, 0)
    assert np.isnan(row["recall"])


def test_mcnemar_exact_by_hand():
    # 6 images only the first gets right, 1 only the second: p = 2 * (C(7, 0) + C(7, 1)) / 2 ** 7 = 0.125.
    y_true = np.zeros(10, dtype=int)
    first, second = np.array([0] * 8 + [1] * 2), np.array([0] * 2 + [1] * 6 + [0, 1])
    result = metrics.compare_paired(y_true, first, second)
    assert (result.n, result.only_first, result.only_second) == (10, 6, 1)
    assert result.p_value == pytest.approx(2 * (comb(7, 0) + comb(7, 1)) / 2**7)
    outcomes = (first == 0).astype(int) - (second == 0).astype(int)
    assert result.difference.value == pytest.approx(outcomes.mean()) == pytest.approx(0.5)
    assert result.standard_error == pytest.approx(outcomes.std() / sqrt(10))
    assert result.difference.high == pytest.approx(0.5 + 1.959964 * result.standard_error)
    assert result.difference.low == pytest.approx(0.5 - 1.959964 * result.standard_error)


def test_a_comparison_turned_round_changes_its_sign_only():
    y_true, first = draw(60, 3, seed=1)
    second = draw(60, 3, seed=2)[1]
    one, other = metrics.compare_paired(y_true, first, second), metrics.compare_paired(y_true, second, first)
    assert one.difference.value == -other.difference.value
    assert one.p_value == pytest.approx(other.p_value)
    assert one.standard_error == other.standard_error


def test_a_classifier_does_not_differ_from_itself():
    y_true, y_pred = draw(20, 3, seed=0)
    result = metrics.compare_paired(y_true, y_pred, y_pred)
    assert (result.p_value, result.difference, result.standard_error) == (1.0, metrics.Estimate(0, 0, 0), 0.0)


def test_every_image_lies_in_one_reliability_bin_and_edges_open_the_bin_above():
    confidence = np.array([0.5, 0.6, 0.69, 0.7, 0.95, 1.0])
    bins = metrics.reliability_bins(np.array([0, 0, 1, 0, 0, 0]), np.stack([confidence, 1 - confidence], axis=1))
    assert bins["n"].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(bins["low"], [0.5, 0.6, 0.7, 0.9])
    np.testing.assert_allclose(bins["high"], [0.6, 0.7, 0.8, 1.0])
    np.testing.assert_allclose(bins["confidence"], [0.5, 0.645, 0.7, 0.975])
    assert bins["accuracy"].tolist() == [1, 0.5, 1, 1]
    half = metrics.proportion(1, 2)
    assert tuple(bins.loc[1, ["accuracy_low", "accuracy_high"]]) == (half.low, half.high)


@pytest.mark.parametrize("n_bins", [1, 7, 10, 15])
def test_reliability_bins_add_up(n_bins):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.full(4, 0.5), 500).astype(np.float32)
    bins = metrics.reliability_bins(rng.integers(0, 4, 500), proba, n_bins)
    assert bins["n"].sum() == 500
    assert (bins["low"] - 1e-6 <= bins["confidence"]).all()
    assert (bins["confidence"] <= bins["high"] + 1e-6).all()


def test_ece_is_zero_when_three_of_four_are_right_at_confidence_75():
    proba = np.tile([0.75, 0.25], (4, 1))
    assert metrics.expected_calibration_error(np.array([0, 0, 0, 1]), proba) == pytest.approx(0)


def test_ece_weighs_bins_by_their_images():
    # Bin 0.9: three images, all right, gap 0.1; bin 0.6: one image, wrong, gap 0.6.
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    error = metrics.expected_calibration_error(np.array([0, 0, 0, 1]), proba)
    assert error == pytest.approx(3 / 4 * 0.1 + 1 / 4 * 0.6)


def test_brier_score_runs_from_0_to_2():
    assert metrics.brier_score(np.array([0, 1]), np.eye(2)) == 0
    assert metrics.brier_score(np.array([1, 0]), np.eye(2)) == 2
    # (0.3 ** 2 + 0.2 ** 2 + 0.1 ** 2)
    assert metrics.brier_score(np.array([0]), np.array([[0.7, 0.2, 0.1]])) == pytest.approx(0.14)


def test_log_loss_is_in_nats_and_finite_where_the_true_class_was_ruled_out():
    proba = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert metrics.log_loss(np.array([0, 1]), proba) == pytest.approx((log(2) + log(4 / 3)) / 2)
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(15 * log(10))


def test_brier_and_log_loss_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y_true, proba = rng.integers(0, 3, 50), rng.dirichlet(np.ones(3), 50)
    assert metrics.log_loss(y_true, proba) == pytest.approx(sklearn_log_loss(y_true, proba, labels=range(3)))
    expected = brier_score_loss(y_true, proba, labels=range(3), scale_by_half=False)
    assert metrics.brier_score(y_true, proba) == pytest.approx(expected)


def test_without_images_scores_are_nan_and_intervals_say_nothing():
    proba = np.empty((0, 3))
    for estimate in (metrics.proportion(0, 0), metrics.accuracy(EMPTY, EMPTY), metrics.macro_f1(EMPTY, EMPTY, 3)):
        assert np.isnan(estimate.value)
        assert (estimate.low, estimate.high) == (0, 1)
    for measure in (metrics.expected_calibration_error, metrics.brier_score, metrics.log_loss):
        assert np.isnan(measure(EMPTY, proba))
    assert metrics.per_class_table(EMPTY, EMPTY, ["a", "b"])["f1"].isna().all()
    assert metrics.reliability_bins(EMPTY, proba).empty
    nothing = metrics.compare_paired(EMPTY, EMPTY, EMPTY)
    assert (nothing.n, nothing.p_value, nothing.difference.low, nothing.difference.high) == (0, 1, -1, 1)
    assert np.isnan([nothing.difference.value, nothing.standard_error]).all()


def test_average_precision_by_hand():
    labels = np.array([0, 0, 1, 1])
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.85, 0.15]])
    curves = metrics.precision_recall(labels, proba, ["a", "b", "absent"])
    assert sorted(curves) == ["a", "b"]
    # b ranks 0.7 (right), 0.2 (wrong), 0.15 (right): precision 1 at recall 1/2, 2/3 at recall 1.
    assert curves["b"][2] == pytest.approx(1 / 2 + 2 / 3 / 2)
    assert curves["a"][2] == pytest.approx(1 / 2 + 2 / 3 / 2)
    recall, precision, _ = curves["a"]
    assert (recall[0], recall[-1], precision[-1]) == (1, 0, 1)


def test_expected_accuracy_is_the_mean_confidence_and_its_interval_holds_the_truth():
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        confidence = draw.uniform(0.3, 1, 150)
        right = (draw.random(150) < confidence).mean()
        found = metrics.expected_accuracy(confidence)
        held += found.low <= right <= found.high
    assert found.value == pytest.approx(confidence.mean())
    assert 0.91 <= held / 200 <= 0.99
    assert np.isnan(metrics.expected_accuracy(np.array([])).value)
