import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from lib import exploration


def test_variance_lies_in_as_many_directions_as_vary():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 1))
    ratios = exploration.variance_ratios(np.hstack([one, 2 * one, -one]), seed=0)
    np.testing.assert_allclose(ratios, [1, 0, 0], atol=1e-10)


def test_variance_ratios_fall_and_sum_to_at_most_1():
    vectors = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float32)
    ratios = exploration.variance_ratios(vectors, seed=0)
    assert ratios.shape == (30,)
    assert (np.diff(ratios) <= 1e-7).all()
    assert ratios.sum() == pytest.approx(1, abs=1e-5)
    few = exploration.variance_ratios(vectors, seed=0, limit=5)
    np.testing.assert_allclose(few, ratios[:5], rtol=1e-3)


def test_the_map_keeps_neighbours_and_a_seed_repeats_it():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(60, 20)) + 12 * np.eye(20)[np.arange(60) % 3]).astype(np.float32)
    points = exploration.tsne_map(vectors, seed=0, perplexity=10)
    assert (points.shape, points.dtype) == ((60, 2), np.float32)
    assert trustworthiness(vectors, points, n_neighbors=5) > 0.75
    np.testing.assert_array_equal(points, exploration.tsne_map(vectors, seed=0, perplexity=10))


def test_the_perplexity_gives_way_to_few_images():
    vectors = np.random.default_rng(0).normal(size=(8, 20)).astype(np.float32)
    assert np.isfinite(exploration.tsne_map(vectors, seed=0, perplexity=30)).all()


def test_centroids_are_compared_around_the_common_mean():
    # All vectors are positive and alike; around the mean (5, 5) the two classes point in opposite directions.
    vectors = np.array([[6.0, 5.0], [6.0, 5.0], [4.0, 5.0], [4.0, 5.0]])
    cosines = exploration.centroid_cosines(vectors, np.array([0, 0, 1, 1]), 2)
    np.testing.assert_allclose(cosines, [[1, -1], [-1, 1]], atol=1e-12)


def test_centroid_cosines_by_hand():
    # Centroids (1, 0), (0, 1), (-1, -1): their mean is 0; cos((1, 0), (-1, -1)) = -1 / sqrt(2).
    cosines = exploration.centroid_cosines(np.array([[1.0, 0], [0, 1.0], [-1.0, -1.0]]), np.arange(3), 3)
    half = -1 / np.sqrt(2)
    np.testing.assert_allclose(cosines, [[1, 0, half], [0, 1, half], [half, half, 1]], atol=1e-12)


def test_neighbours_are_nearest_by_angle_not_by_length():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [100.0, 10.0], [1.0, 1.0]])
    assert exploration.nearest_neighbours(vectors[:1], vectors, 3).tolist() == [[0, 2, 3]]
    assert exploration.nearest_neighbours(vectors[:2], vectors, 9).shape == (2, 4)


def test_equal_neighbours_come_in_their_order():
    assert exploration.nearest_neighbours(np.ones((1, 2)), np.ones((3, 2)), 3).tolist() == [[0, 1, 2]]


def test_sampled_indices_are_distinct_sorted_and_seeded():
    few = exploration.sample_indices(100, 10, seed=0)
    assert len(set(few)) == 10
    assert (np.diff(few) > 0).all()
    np.testing.assert_array_equal(few, exploration.sample_indices(100, 10, seed=0))
    assert not np.array_equal(few, exploration.sample_indices(100, 10, seed=1))
    assert exploration.sample_indices(4, 10, seed=0).tolist() == [0, 1, 2, 3]


def test_an_image_is_not_its_own_neighbour_even_beside_an_exact_copy():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    neighbours = exploration.nearest_neighbours(vectors, vectors, 1, skip=np.arange(3))
    assert neighbours[:2].ravel().tolist() == [1, 0]


def test_images_that_are_all_alike_lie_in_one_place():
    np.testing.assert_array_equal(exploration.tsne_map(np.ones((12, 8)), seed=0, perplexity=30), np.zeros((12, 2)))


def test_the_components_that_hold_most_of_the_variance_are_counted():
    assert exploration.told_variance(np.array([0.5, 0.3, 0.1, 0.05])) == "3 components hold 90 % of the variance."
    assert exploration.told_variance(np.array([0.5, 0.3])) == "The first 2 components hold 80 % of the variance."
