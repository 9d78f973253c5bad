import json

import pytest
from synthetic import LINEAR, NETWORK, draw, search_of

from lib import cards, search, training

FACTS = {
    "task": "birds",
    "classes": ["a", "b"],
    "backbone": {"name": "resnet50"},
    "data_hash": "f" * 64,
    "n": {"train": 60},
    "n_rejected": 2,
}


def test_the_model_card_says_what_a_reader_must_know():
    vectors, labels, folds = draw(n=60, n_classes=2)
    model = training.fit_calibrated(LINEAR, vectors, labels, folds, seed=0)
    selection = search.Selection(LINEAR, "because", None)
    card = cards.model_card(FACTS, selection, model, n_train=60, n_folds=4, seed=5, provenance={"commit": "abc"})
    assert json.loads(json.dumps(card)) == card
    assert set(card) == {
        *("task", "model", "spec", "selection", "classes", "backbone", "data", "n_train", "n_folds"),
        *("temperature", "seed", "intended_use", "limits", "provenance"),
    }
    assert card["model"] == "scaler + logistic regression (C = 0.01)"
    assert card["data"] == {"hash": "f" * 64, "n": {"train": 60}, "n_rejected": 2}
    assert (card["n_train"], card["n_folds"], card["seed"], card["temperature"]) == (
        60,
        4,
        5,
        training.temperature(model),
    )


def test_selection_metrics_name_the_best_of_both_families():
    logistic = search_of([[0.7, 0.9], [0.6, 0.6]])
    mlp = search_of([[0.5, 0.5], [0.6, 0.8]], losses=[0.9, 0.4], specs=[NETWORK, NETWORK])
    selection = search.Selection(LINEAR, "because", None)
    found = cards.selection_metrics(logistic, mlp, selection, {"majority class": 0.5})
    assert json.loads(json.dumps(found))["mlp"]["accuracy"] == pytest.approx(0.7)
    assert found["chosen"] == "logistic_regression"
    assert found["logistic_regression"]["spec"] == LINEAR.to_json()
    assert found["logistic_regression"]["accuracy"] == pytest.approx(0.8)
    assert found["mlp"]["log_loss"] == pytest.approx(0.4)
    assert found["baselines"] == {"majority class": 0.5}
