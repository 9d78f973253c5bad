import numpy as np
import pytest

from lib.errors import DataError
from lib.splits import assign_splits, folds, unit_interval, units


def contents(n, prefix="image"):
    return [f"{prefix} {i}" for i in range(n)]


def split_of(sha256, labels=None, groups=None, given=None, *, seed=0, test=0.2, val=0.1):
    """Splits of images by content."""
    n = len(sha256)
    labels, groups, given = labels or ["cat"] * n, groups or [""] * n, given or [""] * n
    split = assign_splits(sha256, labels, groups, given, seed=seed, test_fraction=test, val_fraction=val)
    return split.tolist()


def counts(split):
    return [split.count(part) for part in ("train", "val", "test")]


def in_line(n, seed=0, prefix="image"):
    """Contents in the order in which they are drawn: the first ones go to test."""
    return sorted(contents(n, prefix), key=lambda name: unit_interval(f"1 {name}", seed))


def test_images_without_duplicate_or_group_are_a_unit_each():
    assert units(["a", "b", "c"], ["", "", ""]).tolist() == ["1 a", "1 b", "1 c"]


def test_duplicates_and_groups_make_a_unit_transitively():
    # a and b share a group, b and its copy share content, the copy and c share another group; d is alone
    unit = units(["a", "b", "b", "c", "d"], ["g", "g", "h", "h", ""])
    assert unit.tolist() == ["0 g"] * 4 + ["1 d"]


def test_a_group_named_like_a_content_is_not_that_content():
    assert units(["a", "b"], ["", "a"]).tolist() == ["1 a", "0 a"]


def test_units_do_not_depend_on_the_order_of_images():
    sha256, groups = list("abbcde"), ["g", "g", "h", "h", "", "i"]
    forward = dict(zip(sha256, units(sha256, groups), strict=True))
    assert dict(zip(sha256[::-1], units(sha256[::-1], groups[::-1]), strict=True)) == forward


def test_a_new_member_does_not_rename_its_group():
    assert units(["b"], ["g"])[0] == units(["a", "b"], ["g", "g"])[1] == "0 g"


def test_the_draw_is_the_start_of_a_sha256():
    assert unit_interval("1 a", 7) == 0x4C37A978014B8E9E / 2**64  # printf '7 1 a' | sha256sum
    draws = [unit_interval(name, 0) for name in contents(2000)]
    assert 0 <= min(draws) < 0.01
    assert 0.99 < max(draws) < 1
    assert np.mean(draws) == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / 2000))


def test_adding_images_never_moves_old_ones():
    old, new = contents(200), contents(300, "new")
    labels = ["cat", "dog"] * 100
    before = split_of(old, labels)
    mixed = [*new[:150], *old, *new[150:]]
    after = split_of(mixed, [*["cat", "bird", "dog"] * 50, *labels, *["dog", "cat"] * 75])
    assert after[150:350] == before


def test_order_does_not_matter():
    sha256, labels = contents(60), ["cat", "dog", "bird"] * 20
    assert split_of(sha256[::-1], labels[::-1])[::-1] == split_of(sha256, labels)


def test_another_seed_draws_another_split():
    assert split_of(contents(100), seed=1) != split_of(contents(100), seed=2)
    assert split_of(contents(100), seed=1) == split_of(contents(100), seed=1)


def test_rates_of_every_class_are_near_the_fractions():
    n = 3000
    labels = ["cat"] * n + ["dog"] * n
    split = split_of(contents(2 * n), labels)
    for own in (split[:n], split[n:]):
        for part, rate in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            assert own.count(part) / n == pytest.approx(rate, abs=3 * np.sqrt(rate * (1 - rate) / n))


def test_duplicates_and_groups_stay_on_one_side():
    n = 400
    sha256 = [f"content {i // 2}" for i in range(n)]  # pairs of duplicates, and groups of ten that cut across them
    groups = [f"group {(i + 1) // 10}" if i % 3 else "" for i in range(n)]
    split = np.array(split_of(sha256, ["cat", "cat", "dog"] * 133 + ["dog"], groups))
    unit = units(sha256, groups)
    assert len(set(unit)) > 10
    assert set(split) == {"train", "val", "test"}
    assert all(len(set(split[unit == name])) == 1 for name in set(unit))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_a_small_class_keeps_two_for_training_and_gives_the_others_where_they_are_missing(size, seed):
    many = contents(100, "other")
    split = split_of([*contents(size), *many], ["rare"] * size + ["cat"] * 100, seed=seed)
    train, val, test = counts(split[:size])
    assert train >= min(size, 2)
    assert train == min(size, 2) or (val and test)


@pytest.mark.parametrize(("size", "expected"), [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [2, 0, 1]), (4, [2, 1, 1])])
def test_a_class_that_drew_nothing_gives_one_to_test_then_one_to_val(size, expected):
    assert counts(split_of(contents(size), test=0.001, val=0.001)) == expected


def test_a_small_class_gives_the_first_in_line():
    first, second, *rest = in_line(4)
    split = dict(zip(contents(4), split_of(contents(4), test=0.001, val=0.001), strict=True))
    assert (split[first], split[second]) == ("test", "val")
    assert [split[name] for name in rest] == ["train", "train"]


def test_no_test_or_validation_images_are_drawn_where_none_are_wanted():
    assert counts(split_of(contents(10), test=0, val=0)) == [10, 0, 0]
    assert counts(split_of(contents(3), test=0, val=0.5))[2] == 0


def test_given_splits_are_respected():
    given = ["train", "val", "test"] * 10
    assert split_of(contents(30), given=given) == given


def test_missing_test_images_are_drawn_from_train_alone():
    given = ["val"] * 50 + ["train"] * 500
    split = split_of(contents(550), given=given)
    assert split[:50] == ["val"] * 50
    assert counts(split[50:])[1] == 0
    assert split[50:].count("test") / 500 == pytest.approx(0.2, abs=3 * np.sqrt(0.2 * 0.8 / 500))


def test_missing_validation_images_are_drawn_from_train_alone():
    given = ["test"] * 50 + ["train"] * 500
    split = split_of(contents(550), given=given)
    assert split[:50] == ["test"] * 50
    assert counts(split[50:])[2] == 0
    assert split[50:].count("val") / 500 == pytest.approx(0.1, abs=3 * np.sqrt(0.1 * 0.9 / 500))


def test_an_image_without_a_split_follows_its_group_that_has_one():
    sha256, groups = contents(40), ["", "", "g", "g", "h", "h"] + [""] * 34
    given = ["val", "test", "test", "", "val", ""] + [""] * 34
    for seed in range(10):
        assert split_of(sha256, groups=groups, given=given, seed=seed)[:6] == [
            "val",
            "test",
            "test",
            "test",
            "val",
            "val",
        ]


def check_folds(pairs, n, n_folds):
    assert len(pairs) == n_folds
    assert sorted(np.concatenate([held for _, held in pairs]).tolist()) == list(range(n))
    for train, held in pairs:
        assert sorted([*train, *held]) == list(range(n))


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_each_image_is_validated_once_and_each_fold_has_its_share_of_every_class(n_folds):
    labels = np.array([0] * 30 + [1] * 60)
    pairs = folds(labels, np.array(contents(90), dtype=object), n_folds=n_folds, seed=0)
    check_folds(pairs, 90, n_folds)
    for _, held in pairs:
        assert np.bincount(labels[held]).tolist() == [30 // n_folds, 60 // n_folds]


def test_folds_keep_units_together_and_classes_in_proportion():
    labels = np.array([0] * 60 + [1] * 60)
    unit = np.array([f"unit {i // 4}" for i in range(120)], dtype=object)
    pairs = folds(labels, unit, n_folds=5, seed=0)
    check_folds(pairs, 120, 5)
    for train, held in pairs:
        assert set(unit[train]).isdisjoint(unit[held])
        assert np.bincount(labels[held]).tolist() == [12, 12]


def test_a_unit_may_hold_two_classes():
    labels = np.array([0, 1] * 30)
    unit = np.array([f"unit {i // 2}" for i in range(60)], dtype=object)
    for train, held in folds(labels, unit, n_folds=3, seed=0):
        assert set(unit[train]).isdisjoint(unit[held])
        assert np.bincount(labels[held]).tolist() == [10, 10]


def test_folds_depend_on_the_seed_and_on_nothing_else():
    labels, unit = np.array([0, 1] * 20), np.array(contents(40), dtype=object)
    held = [[list(held) for _, held in folds(labels, unit, n_folds=4, seed=seed)] for seed in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


def test_a_class_smaller_than_the_folds_is_in_every_training_side():
    labels = np.array([0] * 20 + [1] * 3)
    pairs = folds(labels, np.array(contents(23), dtype=object), n_folds=5, seed=0)
    check_folds(pairs, 23, 5)
    assert all(1 in labels[train] for train, _ in pairs)


def test_a_class_of_one_unit_cannot_be_validated():
    labels = np.array([0] * 6 + [1] * 6)
    unit = np.array(contents(6) + ["all the same"] * 6, dtype=object)
    with pytest.raises(DataError, match="all its training images in one group or duplicate"):
        folds(labels, unit, n_folds=3, seed=0)


@pytest.mark.parametrize(
    ("labels", "unit"),
    [
        ([0, 0, 1, 1], "abcd"),  # fewer images than folds
        ([0, 0, 0, 0, 1, 1, 1, 1], "abcdefgh"),  # no class with one image a fold
        ([0] * 10 + [1] * 10, "aaaaabbbbb" * 2),  # fewer units than folds
    ],
)
def test_too_few_units_for_the_folds_say_what_to_do(labels, unit):
    with pytest.raises(DataError, match="lower `folds` or add images"):
        folds(np.array(labels), np.array(list(unit), dtype=object), n_folds=5, seed=0)
