"""The sequential test errs no more often than it says, however often one looks, and finds what it was made for."""

import numpy as np
import pytest

from lib.sequential import (
    LEVEL,
    POWER,
    SHARE_LEVEL,
    Tally,
    difference,
    half_width,
    paired_difference,
    planned_labels,
    share_evidence,
    tally,
)

RUNS = 1000
EFFECT = 0.05


def apart(n, right):
    """The tally of n clients with a label each."""
    middle = (right + 1) / (n + 2)
    return Tally(n, right, n, middle * (1 - middle) / n)


def looked_at_always(champion, challenger, n, *, seed, effect=EFFECT, every=5):
    """Share of runs in which the challenger is found better, and worse, within n labels dealt by turns."""
    draw = np.random.default_rng(seed)
    better = worse = 0
    for _ in range(RUNS):
        first, second = (np.cumsum(draw.random(n // 2) < accuracy) for accuracy in (champion, challenger))
        for count in range(20, n // 2 + 1, every):
            found = difference(apart(count, int(first[count - 1])), apart(count, int(second[count - 1])), effect)
            if found.low > 0 or found.high < 0:
                better, worse = better + (found.low > 0), worse + (found.high < 0)
                break
    return better / RUNS, worse / RUNS


@pytest.mark.parametrize("accuracy", [0.6, 0.85, 0.97])
def test_without_a_difference_it_errs_at_most_at_its_level(accuracy):
    better, worse = looked_at_always(accuracy, accuracy, 3000, seed=1)
    assert better + worse <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / RUNS)


def test_at_five_points_it_finds_the_better_arm_with_the_planned_number_of_labels():
    n = planned_labels(0.85, EFFECT)
    better, worse = looked_at_always(0.85, 0.90, n, seed=2)
    assert better >= POWER - 2 * np.sqrt(POWER * (1 - POWER) / RUNS)
    assert worse <= LEVEL
    less, more = looked_at_always(0.90, 0.85, n, seed=3)
    assert more >= 0.75
    assert less <= LEVEL


def test_a_tally_of_single_labels_has_the_variance_of_independent_ones():
    found = tally([(1, 1)] * 80 + [(1, 0)] * 20)
    assert (found.n, found.right, found.n_clients) == (100, 80, 100)
    assert found.variance == pytest.approx(0.8 * 0.2 / 100, rel=0.03)


def test_answers_of_one_client_are_alike_and_tell_less():
    alone, alike = tally([(1, 1)] * 80 + [(1, 0)] * 20), tally([(4, 4)] * 20 + [(4, 0)] * 5)
    assert (alike.n, alike.right) == (alone.n, alone.right)
    assert alike.variance > 3 * alone.variance
    assert tally([]).n == 0


@pytest.mark.parametrize(("n_clients", "most"), [(40, 0.1), (200, LEVEL)])
def test_clients_that_differ_do_not_make_it_err(n_clients, most):
    draw, wrong, runs = np.random.default_rng(6), 0, 300
    for _ in range(runs):
        counts = []
        for _ in range(2):
            skill = draw.beta(9, 1, n_clients)
            owner = draw.integers(0, n_clients, 600)
            right = draw.random(600) < skill[owner]
            counts.append((owner, right))
        for n in range(50, 601, 50):
            arms = []
            for owner, right in counts:
                n_own = np.bincount(owner[:n], minlength=n_clients)
                n_right = np.bincount(owner[:n], weights=right[:n], minlength=n_clients).astype(int)
                arms.append(tally([pair for pair in zip(n_own.tolist(), n_right.tolist(), strict=True) if pair[0]]))
            found = difference(*arms, EFFECT)
            if found.low > 0 or found.high < 0:
                wrong += 1
                break
    assert wrong / runs <= most + 2 * np.sqrt(LEVEL * (1 - LEVEL) / runs)


def test_few_clients_say_nothing_however_many_their_labels():
    found = difference(tally([(100, 50)] * 19), tally([(100, 90)] * 19), EFFECT)
    assert (found.low, found.high) == (-1, 1)


def test_a_plain_test_looked_at_always_would_err_many_times_more_often():
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        gaps = np.cumsum((draw.random(1500) < 0.85).astype(int) - (draw.random(1500) < 0.85))[9:]
        n = np.arange(10, 1501)
        wrong += bool((np.abs(gaps / n) > 1.96 * np.sqrt(2 * 0.85 * 0.15 / n)).any())
    assert wrong / 200 > 3 * LEVEL


def test_the_plan_grows_as_the_effect_shrinks_and_as_shares_part():
    assert planned_labels(0.85, 0.1) < planned_labels(0.85, 0.05) < planned_labels(0.85, 0.02)
    assert planned_labels(0.85, 0.05) < planned_labels(0.85, 0.05, share=0.1)


def test_few_labels_say_nothing():
    found = difference(apart(19, 0), apart(19, 19), EFFECT)
    assert np.isnan(found.value)
    assert (found.low, found.high) == (-1, 1)


def test_the_same_images_need_fewer_labels():
    split = difference(apart(400, 340), apart(400, 360), EFFECT)
    paired = paired_difference(400, 10, 30, EFFECT)
    assert paired.value == pytest.approx(split.value) == pytest.approx(0.05)
    assert paired.high - paired.low < 0.7 * (split.high - split.low)


def test_a_one_sided_run_is_not_certain():
    found = paired_difference(10, 0, 10, EFFECT)
    assert found.value == found.high == 1
    assert found.low < 0.9
    assert paired_difference(10, 0, 0, EFFECT).low < 0 < paired_difference(10, 0, 0, EFFECT).high


def test_paired_without_a_difference_it_errs_at_most_at_its_level():
    draw = np.random.default_rng(4)
    wrong = 0
    for _ in range(RUNS):
        kind = draw.choice(3, 1000, p=[0.08, 0.08, 0.84])
        lost, won = np.cumsum(kind == 0), np.cumsum(kind == 1)
        for n in range(10, 1001, 5):
            found = paired_difference(n, int(lost[n - 1]), int(won[n - 1]), EFFECT)
            if found.low > 0 or found.high < 0:
                wrong += 1
                break
    assert wrong / RUNS <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / RUNS)


def test_the_interval_is_wider_than_that_of_one_look_and_shrinks():
    widths = [half_width(0.1 / n, EFFECT) for n in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    assert all(width > 1.96 * np.sqrt(0.1 / n) for width, n in zip(widths, (100, 1000, 10_000), strict=True))


def test_the_share_check_errs_at_most_at_its_level_and_finds_a_planted_fault():
    draw = np.random.default_rng(5)
    false_alarms = faults = 0
    for _ in range(RUNS):
        for share, planted in ((0.5, False), (0.55, True)):
            counts = np.cumsum(draw.random(3000) < share)
            looks = np.arange(50, 3001, 50)
            alarm = any(share_evidence(n - counts[n - 1], counts[n - 1], 0.5) >= 1 / SHARE_LEVEL for n in looks)
            faults, false_alarms = faults + (alarm and planted), false_alarms + (alarm and not planted)
    assert false_alarms / RUNS <= SHARE_LEVEL
    assert faults / RUNS > 0.95
