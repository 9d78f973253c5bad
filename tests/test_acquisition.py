import numpy as np

from lib.acquisition import CANDIDATES, next_to_label


def test_the_least_sure_goes_first_and_then_what_is_unlike_it():
    vectors = np.array([[1, 0], [1, 0.01], [0, 1], [1, 0.02]], dtype=np.float32)
    confidence = np.array([0.3, 0.31, 0.6, 0.32])
    assert next_to_label(vectors, confidence, 2).tolist() == [0, 2]


def test_sure_answers_are_not_asked_about_while_there_are_doubtful_ones():
    generator = np.random.default_rng(0)
    vectors, confidence = generator.standard_normal((200, 4)).astype(np.float32), generator.random(200)
    found = next_to_label(vectors, confidence, 5)
    assert len(set(found)) == 5
    assert set(found) <= set(np.argsort(confidence)[: 5 * CANDIDATES])


def test_no_more_than_there_are():
    vectors, confidence = np.eye(3, dtype=np.float32), np.array([0.9, 0.5, 0.7])
    assert sorted(next_to_label(vectors, confidence, 10)) == [0, 1, 2]
    assert len(next_to_label(vectors[:0], confidence[:0], 10)) == 0
    assert len(next_to_label(vectors, confidence, 0)) == 0
