import numpy as np

from lib.clusters import alike


def around(direction, n, spread, seed):
    """Vectors near a direction of 8."""
    vectors = np.random.default_rng(seed).standard_normal((n, 8)) * spread
    vectors[:, direction] += 1
    return vectors.astype(np.float32)


def test_groups_are_found_largest_first_and_the_most_typical_image_leads():
    vectors = np.concatenate([around(0, 6, 0.05, 0), around(3, 12, 0.05, 1), np.eye(8, dtype=np.float32)[5:8]])
    first, second = alike(vectors, 0.2)
    assert set(first) == set(range(6, 18))
    assert set(second) == set(range(6))
    unit = vectors[first] / np.linalg.norm(vectors[first], axis=1, keepdims=True)
    assert (unit @ unit.mean(axis=0)).argmax() == 0


def test_small_groups_are_left_out():
    assert alike(around(0, 4, 0.01, 0), 0.2) == []
    assert [len(places) for places in alike(around(0, 4, 0.01, 0), 0.2, least=2)] == [4]


def test_nothing_is_like_nothing():
    assert alike(np.empty((0, 8), np.float32), 0.2) == []
    assert alike(np.ones((1, 8), np.float32), 0.2, least=1) == []
