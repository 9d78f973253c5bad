import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from lib import training
from lib.classifiers import Spec
from lib.metrics import log_loss
from lib.splits import folds as make_folds
from lib.training import Search

LINEAR = Spec("logistic_regression", C=0.01)
NETWORK = Spec("mlp", hidden=(8,), alpha=1.0)
FACTS = {
    "task": "birds",
    "classes": ["a", "b"],
    "backbone": {"name": "resnet50"},
    "data_hash": "f" * 64,
    "n": {"train": 60},
    "n_rejected": 2,
}


def draw(n=120, n_classes=3, gap=2.0, dim=12, seed=0):
    """Seeded clouds around class centres `gap` apart: vectors, labels, four folds."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    vectors[np.arange(n), labels] += gap
    return vectors, labels, folds_of(labels)


def folds_of(labels):
    return make_folds(labels, np.arange(len(labels)).astype(str), n_folds=4, seed=0)


def search_of(accuracies, losses=None, specs=None, proba=None):
    """A hand-made search: a list of fold accuracies a spec."""
    losses = losses or [0.5] * len(accuracies)
    rows = [
        (spec, fold, accuracy, losses[spec])
        for spec, scores in enumerate(accuracies)
        for fold, accuracy in enumerate(scores)
    ]
    table = pd.DataFrame(rows, columns=["spec", "fold", "accuracy", "log_loss"])
    return Search(table, specs or [LINEAR] * len(accuracies), proba or [np.eye(2)] * len(accuracies))


def test_the_best_spec_has_the_highest_mean_accuracy():
    search = search_of([[0.5, 0.7], [0.9, 0.7], [0.8, 0.6]])
    assert search.best == 1
    assert search.summary["accuracy"].tolist() == pytest.approx([0.6, 0.8, 0.7])
    assert search.summary["standard_error"].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_among_equals_the_smaller_log_loss_is_best_and_then_the_first():
    assert search_of([[0.8], [0.8], [0.8]], [0.3, 0.2, 0.2]).best == 1


def test_equal_accuracies_are_equal_in_whatever_order_the_folds_have_them():
    # (0.1 + 0.2 + 0.3) / 3 and (0.3 + 0.2 + 0.1) / 3 differ in the last digit of a float.
    forwards, backwards = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    assert search_of([forwards, backwards], [0.2, 0.3]).best == 0
    assert search_of([forwards, backwards], [0.3, 0.2]).best == 1


def test_random_labels_give_chance_accuracy():
    vectors, labels, folds = draw(n=300, gap=0, dim=100)
    for search in (
        training.search_logistic(vectors, labels, folds, seed=0, paths=[[LINEAR]]),
        training.search_mlp(vectors, labels, folds, seed=0, specs=[NETWORK]),
    ):
        right = (search.best_proba.argmax(1) == labels).mean()
        assert abs(right - 1 / 3) < 3 * np.sqrt(1 / 3 * 2 / 3 / 300)


@pytest.mark.parametrize("spec", [LINEAR, Spec("logistic_regression", True, 4, C=0.01)])
def test_a_label_known_only_within_its_own_fold_is_not_exploited(spec):
    # Each fold has a dimension of its own that gives its labels away; the models of that fold never saw it vary.
    vectors, labels, folds = draw(n=240, n_classes=2, gap=0, dim=10)
    for fold, (_, val) in enumerate(folds):
        vectors[:, fold] = 0
        vectors[val, fold] = 10 * (2 * labels[val] - 1)
    search = training.search_logistic(vectors, labels, folds, seed=0, paths=[[spec]])
    assert abs((search.best_proba.argmax(1) == labels).mean() - 0.5) < 3 * np.sqrt(0.25 / 240)


def test_out_of_fold_probabilities_do_not_depend_on_the_fold_they_are_for():
    vectors, labels, folds = draw()
    before = training.search_logistic(vectors, labels, folds, seed=0, paths=[[Spec("logistic_regression", C=0.1)]])
    val = folds[0][1]
    swapped = labels.copy()
    swapped[val] = labels[val][::-1]
    after = training.search_logistic(vectors, swapped, folds, seed=0, paths=[[Spec("logistic_regression", C=0.1)]])
    np.testing.assert_array_equal(before.proba[0][val], after.proba[0][val])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_warm_path_ends_where_a_cold_fit_does(n_classes):
    vectors, labels, folds = draw(n_classes=n_classes)
    path = [Spec("logistic_regression", True, 5, C=C) for C in (1e-3, 1e-2, 1e-1)]
    search = training.search_logistic(vectors, labels, folds, seed=0, paths=[path])
    assert search.specs == path
    for spec, proba in zip(path, search.proba, strict=True):
        for train, val in folds:
            cold = spec.build(0).fit(vectors[train], labels[train]).predict_proba(vectors[val])
            np.testing.assert_allclose(proba[val], cold, atol=5e-3)


def test_scores_of_a_search_belong_to_its_probabilities():
    vectors, labels, folds = draw()
    search = training.search_logistic(vectors, labels, folds, seed=0, paths=[[LINEAR]])
    for row, (_, val) in zip(search.table.itertuples(), folds, strict=True):
        proba = search.proba[0][val]
        assert row.accuracy == (proba.argmax(1) == labels[val]).mean()
        assert row.log_loss == pytest.approx(log_loss(labels[val], proba), rel=1e-5)
    np.testing.assert_allclose(search.proba[0].sum(axis=1), 1, rtol=1e-5)


def test_a_path_ends_after_three_rises_of_the_log_loss_and_the_next_begins():
    vectors, labels, folds = draw(n=120, gap=0, dim=40)  # noise: the less regularised, the worse
    path = [Spec("logistic_regression", C=C) for C in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)]
    other = [Spec("logistic_regression", True, C=1e-4)]
    search = training.search_logistic(vectors, labels, folds, seed=0, paths=[path, other])
    assert search.specs == path[:4] + other
    losses = search.summary["log_loss"].tolist()[:4]
    assert losses == sorted(losses)


def test_searches_use_their_whole_spaces_by_default_and_report_progress():
    vectors, labels, folds = draw(n=40)
    seen = []

    def watch(items, total, description):
        seen.append((total, description))
        return items

    search = training.search_logistic(vectors, labels, folds, seed=0, progress=watch)
    assert seen == [(2, "logistic regression, paths")]
    assert {(spec.root, spec.n_components) for spec in search.specs} == {(False, None), (True, None)}


def test_the_same_seed_gives_the_same_networks():
    vectors, labels, folds = draw(n=60)
    first, again, other = (
        training.search_mlp(vectors, labels, folds, seed=seed, specs=[NETWORK]).best_proba for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def selection_between(n_only_mlp, n_only_logistic, n=100):
    """Select between hand-made searches that differ on so many images."""
    labels = np.zeros(n, dtype=int)
    right, wrong = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    mlp, logistic = np.tile(right, (n, 1)), np.tile(right, (n, 1))
    logistic[:n_only_mlp] = wrong
    mlp[n_only_mlp : n_only_mlp + n_only_logistic] = wrong
    return training.select(
        search_of([[0.9]], specs=[LINEAR], proba=[logistic]), search_of([[0.9]], specs=[NETWORK], proba=[mlp]), labels
    )


def test_the_mlp_is_chosen_beyond_one_standard_error():
    # 8 against 3: gain 5 points; standard error sqrt(11 - 25 / 100) / 100 = 3.28 points.
    selection = selection_between(8, 3)
    assert selection.spec == NETWORK
    assert "+5.00 points" in selection.reason
    assert "is more than one standard error of the paired difference (3.28 points)" in selection.reason
    assert "multi-layer perceptron is chosen" in selection.reason
    assert selection.comparison.only_first == 8


@pytest.mark.parametrize("pair", [(7, 5), (0, 0), (3, 8), (2, 1)])
def test_logistic_regression_stays_within_one_standard_error(pair):
    # 7 against 5: gain 2 points; standard error sqrt(12 - 4 / 100) / 100 = 3.46 points.
    selection = selection_between(*pair)
    assert selection.spec == LINEAR
    assert "not more than one standard error" in selection.reason
    assert "logistic regression is chosen" in selection.reason


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("spec", [LINEAR, NETWORK])
def test_calibration_changes_probabilities_and_no_decision(spec, n_classes):
    vectors, labels, folds = draw(n_classes=n_classes, gap=1.0)
    model = training.fit_calibrated(spec, vectors, labels, folds, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = spec.build(0).fit(vectors, labels)
    proba = model.predict_proba(vectors)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(proba.argmax(1), plain.predict(vectors))
    np.testing.assert_array_equal(model.predict(vectors), plain.predict(vectors))
    # The temperature is that of log-probabilities, with two classes as with more.
    np.testing.assert_allclose(proba, training.rescaled(plain.predict_proba(vectors), model), atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_temperature_is_above_1_for_the_over_confident_and_below_for_the_timid(n_classes):
    vectors, labels, folds = draw(n_classes=n_classes, gap=1.0, dim=30)
    bold, timid = (
        training.temperature(training.fit_calibrated(Spec("logistic_regression", C=C), vectors, labels, folds, seed=0))
        for C in (1000.0, 1e-4)
    )
    assert timid < 1 < bold


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_temperature_minimises_the_out_of_fold_log_loss(n_classes):
    vectors, labels, folds = draw(n_classes=n_classes, gap=1.0)
    spec = Spec("logistic_regression", C=1.0)
    model = training.fit_calibrated(spec, vectors, labels, folds, seed=0)
    proba = np.empty((len(labels), n_classes))
    for train, val in folds:
        proba[val] = spec.build(0).fit(vectors[train], labels[train]).predict_proba(vectors[val])
    grid = training.temperature(model) * np.array([0.9, 0.97, 1.0, 1.03, 1.1])
    losses = [log_loss(labels, (p := proba ** (1 / T)) / p.sum(axis=1, keepdims=True)) for T in grid]
    assert int(np.argmin(losses)) == 2


def test_the_same_seed_gives_the_same_calibrated_model():
    vectors, labels, folds = draw(n=60)
    first, again = (training.fit_calibrated(NETWORK, vectors, labels, folds, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(vectors), again.predict_proba(vectors))


class Cooled:
    """Stands for a calibrated model of temperature 2."""

    classes_ = np.arange(3)
    calibrated_classifiers_ = [type("", (), {"calibrators": [type("", (), {"beta_": 0.5})], "estimator": None})]  # noqa: RUF012


def test_rescaling_by_temperature_2_takes_roots():
    # Roots 0.8, 0.6, 0: divided by 1.4. A zero stays finite.
    rescaled = training.rescaled(np.array([[0.64, 0.36, 0.0]], dtype=np.float32), Cooled())
    np.testing.assert_allclose(rescaled, [[0.8 / 1.4, 0.6 / 1.4, 0.0]], atol=2e-6)


def test_baselines_are_what_their_names_say():
    vectors, _, _ = draw(n=100, gap=3.0)
    labels = np.where(np.arange(100) % 3 == 0, 0, 1)
    folds = folds_of(labels)
    vectors[np.arange(100), labels + 3] += 3
    noise = np.random.default_rng(1).normal(size=(100, 48)).astype(np.float32)
    predictions = training.baselines(vectors, noise, labels, folds, seed=0)
    assert list(predictions) == [
        "majority class",
        "nearest centroid",
        "10 nearest neighbours",
        "logistic regression on raw pixels",
    ]
    scores = {name: (predicted == labels).mean() for name, predicted in predictions.items()}
    assert scores["majority class"] == 0.66
    assert scores["nearest centroid"] > 0.9
    assert scores["10 nearest neighbours"] > 0.9
    assert scores["logistic regression on raw pixels"] < 0.8  # there is nothing in the noise


def test_baselines_know_nothing_of_random_labels():
    vectors, labels, folds = draw(n=300, gap=0, dim=100)
    for predicted in training.baselines(vectors, vectors, labels, folds, seed=0).values():
        assert (predicted == labels).mean() < 1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / 300)


def test_baselines_bear_few_images_and_dead_dimensions():
    vectors, labels, _ = draw(n=12, n_classes=2)
    vectors[:, -1] = 0
    predictions = training.baselines(vectors, vectors, labels, folds_of(labels), seed=0)
    assert all(predicted.shape == (12,) for predicted in predictions.values())


def test_a_learning_curve_grows_to_the_whole_training_folds():
    vectors, labels, folds = draw(n=120)
    curve = training.learning_curve(LINEAR, vectors, labels, folds, seed=0)
    assert sorted(curve["n_train"].unique()) == [9, 18, 36, 63, 90]
    assert curve.groupby("n_train")["fold"].apply(list).tolist() == [[0, 1, 2, 3]] * 5
    whole = curve[(curve["n_train"] == 90) & (curve["fold"] == 0)]["accuracy"].item()
    train, val = folds[0]
    fitted = LINEAR.build(0).fit(vectors[train], labels[train])
    assert whole == pytest.approx(fitted.score(vectors[val], labels[val]), abs=0.04)


def test_a_learning_curve_never_counts_one_size_twice_and_keeps_every_class():
    vectors, labels, folds = draw(n=80, n_classes=10)
    curve = training.learning_curve(LINEAR, vectors, labels, folds, seed=0, fractions=(0.01, 0.1, 0.15, 1.0))
    assert sorted(curve["n_train"].unique()) == [10, 60]
    assert not curve.duplicated(["n_train", "fold"]).any()


def test_one_image_of_each_class_leads_every_training_subset():
    vectors, labels, folds = draw(n=80, n_classes=10, gap=20.0)
    curve = training.learning_curve(LINEAR, vectors, labels, folds, seed=0, fractions=(0.1,))
    assert set(curve["n_train"]) == {10}
    assert curve["accuracy"].min() > 0.9  # out of reach for who has never seen some of the classes


def test_a_learning_curve_leaves_out_sizes_below_the_pca():
    vectors, labels, folds = draw(n=80)
    curve = training.learning_curve(
        Spec("logistic_regression", False, 10, C=0.1), vectors, labels, folds, seed=0, fractions=(0.1, 0.2, 1.0)
    )
    assert sorted(curve["n_train"].unique()) == [12, 60]


def test_the_model_card_says_what_a_reader_must_know():
    vectors, labels, folds = draw(n=60, n_classes=2)
    model = training.fit_calibrated(LINEAR, vectors, labels, folds, seed=0)
    selection = training.Selection(LINEAR, "because", None)
    card = training.model_card(FACTS, selection, model, n_train=60, seed=5, provenance={"commit": "abc"})
    assert json.loads(json.dumps(card)) == card
    assert set(card) == {
        *("task", "model", "spec", "selection", "classes", "backbone", "data", "n_train", "temperature", "seed"),
        *("intended_use", "limits", "provenance"),
    }
    assert card["model"] == "scaler + logistic regression (C = 0.01)"
    assert card["data"] == {"hash": "f" * 64, "n": {"train": 60}, "n_rejected": 2}
    assert (card["n_train"], card["seed"], card["temperature"]) == (60, 5, training.temperature(model))


def test_selection_metrics_name_the_best_of_both_families():
    logistic = search_of([[0.7, 0.9], [0.6, 0.6]])
    mlp = search_of([[0.5, 0.5], [0.6, 0.8]], losses=[0.9, 0.4], specs=[NETWORK, NETWORK])
    selection = training.Selection(LINEAR, "because", None)
    found = training.selection_metrics(logistic, mlp, selection, {"majority class": 0.5})
    assert json.loads(json.dumps(found))["mlp"]["accuracy"] == pytest.approx(0.7)
    assert found["chosen"] == "logistic_regression"
    assert found["logistic_regression"]["spec"] == LINEAR.to_json()
    assert found["logistic_regression"]["accuracy"] == pytest.approx(0.8)
    assert found["mlp"]["log_loss"] == pytest.approx(0.4)
    assert found["baselines"] == {"majority class": 0.5}


def test_tables_name_preprocessing_network_and_penalty():
    specs = [Spec("logistic_regression", True, 64, C=C) for C in (0.1, 1.0)]
    table = training.path_table(search_of([[0.5, 0.7], [0.8, 0.8]], specs=specs))
    assert table["preprocessing"].tolist() == ["square root + scaler + PCA 64"] * 2
    assert table["C"].tolist() == [0.1, 1.0]
    assert table["accuracy"].tolist() == pytest.approx([0.6, 0.8])
    grid = training.grid_table(search_of([[0.5, 0.7]], specs=[Spec("mlp", hidden=(128, 64), alpha=0.1)]))
    assert grid[["network", "alpha"]].values.tolist() == [["scaler + MLP (128, 64)", 0.1]]


def test_the_fold_table_shows_the_best_of_each_family_by_fold():
    searches = {"linear": search_of([[0.1, 0.2], [0.7, 0.9]]), "MLP": search_of([[0.8, 0.6], [0.1, 0.1]])}
    table = training.fold_table(searches)
    assert table["linear"].tolist() == [0.7, 0.9]
    assert table["MLP"].tolist() == [0.8, 0.6]
    assert table.index.name == "fold"
