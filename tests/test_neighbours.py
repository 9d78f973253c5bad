import numpy as np
import pytest

from lib import neighbours
from lib.neighbours import find_neighbours


def test_neighbours_come_nearest_first_and_never_the_vector_itself():
    # Directions at 0, 10, 40 and 90 degrees.
    angles = np.radians([0, 10, 40, 90])
    near = find_neighbours(np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32), 2)
    assert near.indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    np.testing.assert_allclose(near.distances[0], 1 - np.cos(np.radians([10, 40])), atol=1e-6)
    np.testing.assert_allclose(near.around, 1 - np.cos(np.radians([40, 30, 40, 80])), atol=1e-6)


def test_length_does_not_count_and_few_vectors_have_few_neighbours():
    near = find_neighbours(np.array([[1.0, 0.0], [9.0, 0.0], [0.0, 2.0]]))
    assert near.indices.shape == (3, 2)
    assert near.distances[0].tolist() == pytest.approx([0, 1])


def test_blocks_change_nothing(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    whole = find_neighbours(vectors, 5)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    parts = find_neighbours(vectors, 5)
    np.testing.assert_array_equal(whole.indices, parts.indices)
    np.testing.assert_allclose(whole.distances, parts.distances, atol=1e-6)
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    np.fill_diagonal(cosine, -2)
    np.testing.assert_array_equal(whole.indices, np.argsort(-cosine, axis=1)[:, :5])
