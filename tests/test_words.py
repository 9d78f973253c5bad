"""Answers in words."""

import numpy as np
import pytest

from lib.prediction import Prediction
from lib.web.words import comment, either, percent, sentence

LABELS = ("shirt", "coat", "bag", "shoe", "dress")


def prediction(decision, *members, probability=0.5):
    """An answer whose conformal set has these members."""
    return Prediction(LABELS, (probability, 0.1, 0.1, 0.1, 0.1), np.zeros(1), 0.5, decision, members)


@pytest.mark.parametrize(
    ("probability", "text"), [(1.0, "> 99 %"), (0.991, "> 99 %"), (0.97, "97 %"), (0.012, "1 %"), (0.0, "< 1 %")]
)
def test_a_probability_is_never_told_as_certain(probability, text):
    assert percent(probability) == text


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (LABELS[:1], "shirt"),
        (LABELS[:2], "shirt or coat"),
        (LABELS[:3], "shirt, coat or bag"),
        (LABELS[:4], "shirt, coat, bag or shoe"),
        (LABELS, "shirt, coat, bag or one of 2 more"),
    ],
)
def test_few_classes_are_named_and_many_counted(labels, text):
    assert either(labels) == text


@pytest.mark.parametrize(
    ("result", "said", "more"),
    [
        (prediction("accepted", "shirt", probability=0.97), "shirt", "97 % sure."),
        (prediction("accepted", "shirt", "coat"), "shirt", "50 % sure. It may also be coat."),
        (prediction("unsure", "shirt", "coat"), "Not sure: shirt or coat", "shirt comes first with 50 %"),
        (prediction("unsure", "shirt"), "Not sure: perhaps shirt", "below what I answer for"),
        (
            prediction("unknown", "shirt"),
            "This looks like nothing I was trained on.",
            "one of my classes: shirt (50 %)",
        ),
        (prediction(None), "shirt", "never measured"),
    ],
)
def test_an_answer_says_whether_to_believe_it(result, said, more):
    assert sentence(result) == said
    assert more in comment(result)
