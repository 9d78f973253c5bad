"""A version in a sentence, and its card in lines."""

from types import SimpleNamespace

from lib import summary

ESTIMATE = {"value": 0.832, "low": 0.786, "high": 0.869}
CARD = {
    "model": "logistic regression",
    "selection": "it was better",
    "backbone": {"name": "resnet50", "reason": "it was asked for"},
    "classes": ["cat", "dog"],
    "data": {"hash": "0123456789abcdef", "n": {"train": 1234}},
    "temperature": 0.84444,
    "seed": 3,
    "intended_use": "sorting",
    "limits": "many",
    "provenance": {"commit": "abc", "created": "today"},
}


def version(**test):
    return SimpleNamespace(name="v1", card=CARD, metrics={"test": {"n": 1315, "accuracy": ESTIMATE, **test}})


def test_a_headline_has_the_model_the_score_its_interval_and_n():
    assert summary.headline(version()) == (
        "logistic regression on resnet50 is right on 83.2 % (78.6 to 86.9) of 1,315 test images in 2 classes "
        "(version v1)."
    )


def test_near_copies_in_training_are_told_where_there_are_some():
    apart = {"n": 1300, "accuracy": ESTIMATE | {"value": 0.81}}
    assert summary.headline(version(apart=apart)).endswith(
        "Without the 15 that have a near copy in training it is 81.0 % (78.6 to 86.9)."
    )
    for nothing in ({"n": 0, "accuracy": None}, {"n": 1315, "accuracy": ESTIMATE}):
        assert summary.headline(version(apart=nothing)).endswith("(version v1).")


def test_a_card_in_lines_has_no_nested_value():
    lines = dict(summary.card_lines(CARD))
    assert lines["trained on"] == "1,234 images; data SHA-256 0123456789ab"
    assert lines["precision"] == "fp32"  # of cards of 0.1, which do not tell
    assert lines["temperature"] == "0.844 (fitted on out-of-fold predictions)"
    assert all(isinstance(text, str) for text in lines.values())


def test_an_update_tells_what_it_was_made_from_and_the_rules_it_was_held_to():
    gate = [{"rule": "not worse", "value": "+1.0", "passed": True}, {"rule": "true", "value": "0.3", "passed": False}]
    lineage = {"parent": "v0", "method": "exact", "why": "50 new labels", "added": {"cat": 3, "dog": 4},
               "n_held_back": 2, "new_classes": [], "gate": gate}  # fmt: skip
    lines = dict(summary.card_lines(CARD | {"lineage": lineage}))
    assert lines["made from"] == "v0, exact, set off by: 50 new labels"
    assert lines["labels from production"] == "3 cat, 4 dog; 2 held back"
    assert lines["new classes"] == "none"
    assert lines["gate"] == "not worse: +1.0; true: 0.3 (FAILED)"
    assert "made from" not in dict(summary.card_lines(CARD))
