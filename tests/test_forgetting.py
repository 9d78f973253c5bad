"""What an update changed, by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.forgetting import BeforeAfter, changed_answers, recall_changes

LABELS = np.array([0, 0, 1, 1, 2])
BEFORE = np.eye(2)[[0, 0, 1, 0, 1]]
AFTER = np.eye(3)[[0, 1, 1, 1, 2]]
BOTH = BeforeAfter(LABELS, BEFORE, AFTER, ["a", "b", "new"])


def test_recall_before_and_after_with_intervals():
    table = recall_changes(BOTH).set_index("label")
    assert table["n"].tolist() == [2, 2, 1]
    assert table["before"].tolist() == [1.0, 0.5, 0.0]
    assert table["after"].tolist() == [0.5, 1.0, 1.0]
    assert table["difference"].tolist() == [-0.5, 0.5, 1.0]
    assert (table["after_low"] < table["after"]).all()
    assert table.loc["a", "after_high"] == pytest.approx(0.9055, abs=1e-3)  # Wilson, 1 of 2


def test_a_class_without_an_image_has_no_row():
    assert recall_changes(BeforeAfter(LABELS[:2], BEFORE[:2], AFTER[:2], BOTH.classes))["label"].tolist() == ["a"]


def test_changed_answers_name_what_was_lost_first():
    images = pd.DataFrame({"sha256": list("vwxyz"), "path": [f"{name}.png" for name in "vwxyz"]}, index=range(3, 8))
    table = changed_answers(BOTH, images)
    assert table[["path", "label", "before", "after", "effect"]].values.tolist() == [
        ["w.png", "a", "a", "b", "lost"],
        ["y.png", "b", "a", "b", "gained"],
        ["z.png", "new", "b", "new", "gained"],
    ]


def test_wrong_both_times_is_told_apart():
    both = BeforeAfter(np.array([0]), np.eye(3)[[1]], np.eye(3)[[2]], ["a", "b", "c"])
    images = pd.DataFrame({"sha256": ["v"], "path": ["v.png"]})
    assert changed_answers(both, images)["effect"].tolist() == ["wrong both times"]
