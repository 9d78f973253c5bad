import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from lib.drift import (
    LEVEL,
    N_FULL,
    N_QUICK,
    SHRINKAGE,
    class_mix,
    discrepancy,
    displacement,
    fit_space,
    permutation_test,
    separability,
    stability_index,
    together,
    unevenness,
    with_mix,
)

N_WINDOW, N_REFERENCE = 30, 50


@pytest.fixture
def points():
    return np.random.default_rng(0).standard_normal((N_WINDOW + N_REFERENCE, 6)).astype(np.float32)


@pytest.fixture
def members():
    """The window first, then one permutation."""
    columns = np.zeros((N_WINDOW + N_REFERENCE, 2), dtype=np.float32)
    columns[:N_WINDOW, 0] = 1
    columns[np.random.default_rng(1).permutation(len(columns))[:N_WINDOW], 1] = 1
    return columns


def test_discrepancy_is_the_distance_of_two_means_in_the_kernels_space(points, members):
    found = discrepancy(points, 2.0)(members)
    for column, value in zip(members.T, found, strict=True):
        first, second = points[column == 1], points[column == 0]
        own, other, both = (
            rbf_kernel(a, b, gamma=1 / 8).mean() for a, b in ((first, first), (second, second), (first, second))
        )
        assert value == pytest.approx(own + other - 2 * both, abs=1e-5)


def test_separability_is_the_curve_area_of_a_classifier_without_the_image(points, members):
    found = separability(points)(members)
    centred = points.astype(float) - points.mean(axis=0)
    strength = SHRINKAGE * (centred**2).sum() / points.shape[1]
    for column, value in zip(members.T, found, strict=True):
        scores = []
        for left_out in range(len(points)):
            rest = np.arange(len(points)) != left_out
            # The images' centre and the intercept are those of all images, which no permutation changes.
            design = np.column_stack([np.ones(rest.sum()), centred[rest]])
            penalty = np.diag([0.0, *[strength] * points.shape[1]])
            weights = np.linalg.solve(design.T @ design + penalty, design.T @ column[rest])
            scores.append(weights @ [1.0, *centred[left_out]])
        assert value == pytest.approx(roc_auc_score(column, scores), abs=1e-3)


def test_unevenness_is_pearsons_chi_square(members):
    codes = np.random.default_rng(2).integers(0, 4, len(members))
    for column, value in zip(members.T, unevenness(codes)(members), strict=True):
        table = [np.bincount(codes[column == side], minlength=4) for side in (0, 1)]
        assert value == pytest.approx(chi2_contingency(table, correction=False).statistic, rel=1e-4)


def test_displacement_orders_permutations_as_mann_and_whitney_do(members):
    numbers = np.random.default_rng(3).random(len(members)).round(1)  # with ties
    middle = N_WINDOW * N_REFERENCE / 2
    expected = [abs(mannwhitneyu(numbers[c == 1], numbers[c == 0]).statistic - middle) for c in members.T]
    found = displacement(numbers)(members)
    assert found[0] / found[1] == pytest.approx(expected[0] / expected[1], rel=1e-4)


def windows(n, shift=0.0):
    """Draws of a window and a reference that differ by `shift` in every direction."""
    for seed in range(n):
        pooled = np.random.default_rng(seed).standard_normal((N_WINDOW + N_REFERENCE, 6)).astype(np.float32)
        pooled[:N_WINDOW] += shift
        yield seed, pooled


def judged(seed, pooled, most=N_QUICK):
    statistics = {
        "MMD": discrepancy(pooled, 3.0),
        "AUC": separability(pooled),
        "classes": unevenness((pooled[:, 0] > 0).astype(int)),
        "confidence": displacement(pooled[:, 1]),
    }
    return permutation_test(statistics, N_WINDOW, N_REFERENCE, seed=seed, most=most)


def test_it_is_wrong_as_often_as_it_says_however_many_statistics():
    p_values = np.array([judged(*drawn).p_value for drawn in windows(400)])
    assert 0.03 <= (p_values <= LEVEL).mean() <= 0.07
    assert 0.15 <= (p_values <= 0.2).mean() <= 0.25


def test_it_finds_a_shift():
    assert np.mean([judged(*drawn).p_value <= LEVEL for drawn in windows(30, shift=0.8)]) >= 0.95


def test_only_suspicious_windows_get_more_permutations():
    (same,), (shifted,) = ([judged(*drawn, most=N_FULL) for drawn in windows(1, shift)] for shift in (0.0, 1.5))
    assert (same.n_permutations, shifted.n_permutations) == (N_QUICK, N_FULL)
    assert shifted.p_value <= 2 / (N_FULL + 1)
    assert judged(0, next(windows(1, 1.5))[1], N_FULL) == shifted  # the same seed, the same answer


def test_one_statistic_keeps_its_own_p_value():
    _, pooled = next(windows(1))
    test = permutation_test({"MMD": discrepancy(pooled, 3.0)}, N_WINDOW, N_REFERENCE, seed=0)
    assert test.p_value == test.p_values["MMD"]
    assert test.values["MMD"] > 0


def test_together_pays_for_every_test():
    assert together([0.01, 0.5]) == 0.02
    assert together([0.9, 0.8]) == 1.0


def test_space_scales_and_measures_distances():
    vectors = np.random.default_rng(0).standard_normal((200, 80)).astype(np.float32) * np.arange(1, 81)
    space = fit_space(vectors)
    points = space(vectors)
    assert (points.shape, points.dtype) == ((200, 64), np.float32)
    assert space.width == pytest.approx(np.sqrt(2 * 80), rel=0.1)  # of 80 scaled directions
    assert fit_space(vectors[:5])(vectors).shape == (200, 4)


def test_space_of_equal_images_has_a_width():
    vectors = np.ones((9, 3), np.float32)
    vectors[0] = 2
    assert fit_space(vectors).width == 1.0  # the median distance is 0


def test_stability_index():
    assert stability_index(np.array([50, 50]), np.array([500, 500])) == pytest.approx(0, abs=1e-9)
    found = stability_index(np.array([5000, 5000]), np.array([2500, 7500]))
    assert found == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), rel=1e-2)
    assert np.isfinite(stability_index(np.array([10, 0]), np.array([0, 10])))


def test_class_mix_sees_through_a_classifier_that_errs():
    generator, n_classes = np.random.default_rng(0), 3
    answers = np.array([[0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.0, 0.1, 0.9]])  # by true class
    confusion = np.array([generator.multinomial(2000, row) for row in answers])
    truth = np.array([0.6, 0.1, 0.3])
    table = class_mix(confusion, generator.multinomial(3000, truth @ answers))
    assert table["reference"].to_list() == pytest.approx([1 / n_classes] * n_classes)
    assert table["share"].to_numpy() == pytest.approx(truth, abs=0.04)
    assert ((table["low"] <= truth) & (truth <= table["high"])).all()
    assert table["share"].sum() == pytest.approx(1)


def test_class_mix_of_a_class_that_is_gone():
    table = class_mix(np.diag([50, 50]), np.array([100, 0]))
    assert table["share"].to_list() == [1.0, 0.0]


def test_with_mix_draws_reference_images_in_the_shares_asked_for():
    labels = np.repeat([0, 1, 2], [4000, 2000, 2000])
    shares = np.array([0.2, 0.8, 0.0])
    places = with_mix(labels, shares, seed=0)
    assert np.bincount(labels[places], minlength=3) / len(places) == pytest.approx(shares, abs=0.03)
    assert len(set(places)) == len(places) >= 2000
    assert (with_mix(labels, shares, seed=0) == places).all()
