import numpy as np
import pytest

from lib.conformal import conformal_sets, conformal_threshold, resplit_coverages


def test_the_threshold_leaves_out_the_share_that_was_promised():
    # Nine images whose true class has probability 0.1 to 0.9: of 10 equally likely ranks the first may be missed.
    true = np.linspace(0.1, 0.9, 9)
    proba = np.column_stack([true, 1 - true])
    labels = np.zeros(9, dtype=int)
    assert conformal_threshold(labels, proba, 0.9) == pytest.approx(0.1)
    assert conformal_threshold(labels, proba, 0.8) == pytest.approx(0.2)


def test_too_few_images_promise_nothing_less_than_every_class():
    proba = np.full((8, 2), 0.5)
    assert conformal_threshold(np.zeros(8, dtype=int), proba, 0.9) == 0.0
    assert conformal_threshold(np.zeros(0, dtype=int), np.zeros((0, 2))) == 0.0
    assert conformal_sets(proba, 0.0).all()


def test_a_set_holds_what_reaches_the_threshold_and_always_the_most_probable():
    sets = conformal_sets(np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]), 0.45)
    assert sets.tolist() == [[True, False, False], [True, False, False]]


def test_the_promise_is_kept_on_average_and_not_by_far_more():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(600, 5))
    proba = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    labels = np.array([draw.choice(5, p=row) for row in proba])
    coverages = resplit_coverages(labels, proba, 150, seed=0)
    assert len(coverages) == 200
    assert 0.895 <= coverages.mean() <= 0.93
    np.testing.assert_array_equal(coverages, resplit_coverages(labels, proba, 150, seed=0))
