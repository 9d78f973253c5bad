"""Labels that people gave: which are believed, and which wait for a person."""

import numpy as np
import pandas as pd
import pytest

from lib.errors import DataError
from lib.labels import (
    BELIEVED,
    CONFIDENT,
    CONFLICT,
    EVALUATED,
    FLOOD,
    HOUR,
    LEFT_OUT,
    QUARANTINED,
    REJECTED,
    TRAINING,
    Rules,
    audit,
    read_reviews,
    reviews_path,
    write_reviews,
)
from lib.production.reading import LABEL_COLUMNS

CLASSES = {"cat", "dog"}


def given(*rows):
    """Labels from (image, label, changes)."""
    found = []
    for number, (image, label, changed) in enumerate(rows, 1):
        found.append({
            "number": number, "created": float(number), "label": label, "source": "s", "prediction": f"p{number}",
            "sha256": image, "kept": True, "version": "v", "arm": "champion", "answered": "cat", "probability": 0.6,
            "decision": "unsure", "vector": b"", "backbone": "f", **changed,
        })  # fmt: skip
    return pd.DataFrame(found, columns=LABEL_COLUMNS)


def judged(table, *, trained=(), evaluated=(), reviews=(), rules=Rules()):  # noqa: B008
    """State and reason of each image."""
    found = audit(table, CLASSES, dict(trained), set(evaluated), dict(reviews), rules)
    return {row.sha256: (row.label, row.state, row.reason) for row in found.itertuples()}


def test_a_label_is_believed_whether_it_agrees_or_corrects_an_unsure_answer():
    found = judged(given(("a", "cat", {}), ("b", "dog", {})))
    assert found == {"a": ("cat", BELIEVED, ""), "b": ("dog", BELIEVED, "")}


def test_different_labels_of_one_image_are_a_conflict_the_same_twice_is_none():
    found = judged(given(("a", "cat", {}), ("a", "dog", {}), ("b", "cat", {}), ("b", "cat", {})))
    assert found["a"] == ("dog", QUARANTINED, CONFLICT)
    assert found["b"] == ("cat", BELIEVED, "")


@pytest.mark.parametrize(
    ("label", "probability", "state"),
    [("dog", 0.99, QUARANTINED), ("dog", 0.98, BELIEVED), ("cat", 1.0, BELIEVED), ("lynx", 1.0, BELIEVED)],
)
def test_a_very_sure_model_outweighs_a_label_of_a_class_it_knows(label, probability, state):
    found = judged(given(("a", label, {"probability": probability})))["a"]
    assert found[1:] == (state, CONFIDENT if state == QUARANTINED else "")


def test_an_image_that_was_trained_on_keeps_its_label_and_an_evaluated_one_never_teaches():
    table = given(("a", "dog", {}), ("b", "cat", {}), ("c", "dog", {}))
    found = judged(table, trained={"a": "cat", "b": "cat"}, evaluated=["c"])
    assert found["a"][1:] == (QUARANTINED, TRAINING)
    assert found["b"][1:] == (BELIEVED, "")
    assert found["c"][1:] == (LEFT_OUT, EVALUATED)


def flood(n, *, label="dog", source="one", start=0.0, seconds=HOUR, name=""):
    times = start + np.linspace(0, seconds, n)
    return [(f"{name}{source}{i}", label, {"source": source, "created": time}) for i, time in enumerate(times)]


def test_a_flood_of_one_label_from_one_client_is_quarantined_and_no_other_label():
    table = given(*flood(21), *flood(15, source="other"), *flood(10, label="cat", name="more"))
    found = judged(table.sort_values("created"), rules=Rules(flood=20))
    reasons = {image: reason for image, (_, _, reason) in found.items()}
    assert sum(reason == FLOOD for reason in reasons.values()) == 21
    assert all(reasons[f"one{i}"] == FLOOD for i in range(21))


def test_as_many_in_more_time_or_among_other_labels_are_no_flood():
    slowly = given(*flood(21, seconds=2 * HOUR))
    mixed = given(*flood(21), *flood(21, label="cat", name="more")).sort_values("created")
    unknown = given(*flood(21)).assign(source=None)
    for table in (slowly, mixed, unknown):
        assert {state for _, state, _ in judged(table, rules=Rules(flood=20)).values()} == {BELIEVED}


def test_what_a_person_decided_outweighs_every_rule():
    table = given(("a", "cat", {}), ("a", "dog", {}), ("b", "dog", {}), ("c", "dog", {}))
    found = judged(table, evaluated=["c"], reviews={"a": "lynx", "b": None, "c": "dog"})
    assert found["a"] == ("lynx", BELIEVED, "")
    assert found["b"][1:] == (LEFT_OUT, REJECTED)
    assert found["c"][1:] == (LEFT_OUT, EVALUATED)  # but for test images, which stay what they are


def test_reviews_are_kept_in_a_file_that_people_can_edit():
    assert read_reviews("t") == {}
    reviews = {"a" * 64: 'a "b", c', "b" * 64: None}
    write_reviews("t", reviews)
    assert read_reviews("t") == reviews
    assert reviews_path("t").read_text().splitlines()[0] == "image,action,label"


@pytest.mark.parametrize("line", ["a,believe,cat", "a,accept,", ",reject,", "a"])
def test_a_review_that_cannot_be_followed_is_named_by_its_line(line):
    reviews_path("t").parent.mkdir(parents=True)
    reviews_path("t").write_text(f"image,action,label\n{'c' * 64},reject,\n{line}\n")
    with pytest.raises(DataError, match="line 3"):
        read_reviews("t")
