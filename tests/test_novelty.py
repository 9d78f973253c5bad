import numpy as np
import pytest

from lib import novelty
from lib.neighbours import kth_distances
from lib.novelty import held_out_recall


def test_the_distance_is_that_to_the_kth_nearest():
    cosines = np.array([[0.9, 0.1, 0.5], [0.0, 1.0, 0.2]])
    np.testing.assert_allclose(kth_distances(cosines, 2), [0.5, 0.8])
    np.testing.assert_allclose(kth_distances(cosines, 10), [0.9, 1.0])


@pytest.fixture
def clouds():
    """Three classes: the third lies away from the first two, which lie beside each other."""
    draw = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = np.array([[5, 0, 0, 0], [5, 0.2, 0, 0], [0, 0, 5, 0]])
    return (centres[labels] + 0.3 * draw.normal(size=(300, 4))).astype(np.float32), labels


def test_a_class_unlike_the_others_is_told_and_one_alike_is_not(clouds):
    vectors, labels = clouds
    table = held_out_recall(vectors[:200], labels[:200], vectors[200:], labels[200:], ["a", "b", "c"]).set_index(
        "label"
    )
    assert table["n"].sum() == 100
    assert table.loc["c", "recall"] == 1
    assert table.loc["c", "auroc"] == 1
    assert table.loc["a", "recall"] < 0.3
    assert 0.3 < table.loc["a", "auroc"] < 0.8
    assert (table["low"] <= table["recall"]).all()


def test_a_class_without_test_images_has_no_row_and_many_images_are_drawn_from(clouds, monkeypatch):
    vectors, labels = clouds
    monkeypatch.setattr(novelty, "MAX_TRAIN", 60)
    monkeypatch.setattr(novelty, "MAX_TEST", 40)
    table = held_out_recall(vectors[:200], labels[:200], vectors[200:], labels[200:], ["a", "b", "c", "d"])
    assert table["label"].tolist() == ["a", "b", "c"]
    assert table["n"].sum() == 40


def test_the_only_class_that_was_drawn_cannot_be_left_out(clouds):
    vectors, labels = clouds
    table = held_out_recall(vectors[:50], np.zeros(50, dtype=int), vectors[200:], labels[200:], ["a", "b", "c"])
    assert table["label"].tolist() == ["b", "c"]
