import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from synthetic import LINEAR, NETWORK, draw, folds_of

from lib import training
from lib.classifiers import Spec
from lib.metrics import log_loss
from lib.neighbours import find_neighbours


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


@pytest.mark.parametrize(("gains", "said"), [([0.02, 0.03, 0.04], "still rises"), ([0.1, -0.05, 0.0], "no clear gain")])
def test_the_last_step_of_a_learning_curve_is_told_with_its_error(gains, said):
    rows = [(size, fold, 0.7 + (size == 90) * gain) for fold, gain in enumerate(gains) for size in (60, 90)]
    told = training.last_gain(pd.DataFrame(rows, columns=["n_train", "fold", "accuracy"]))
    assert told.startswith(f"From 60 to 90 training images the accuracy changes by {100 * np.mean(gains):+.1f} points")
    assert said in told


def test_a_learning_curve_of_one_size_tells_nothing():
    curve = pd.DataFrame({"n_train": [60, 60], "fold": [0, 1], "accuracy": [0.5, 0.6]})
    assert "one point only" in training.last_gain(curve)


def test_the_nearest_centroid_answers_the_class_whose_mean_is_nearest():
    vectors = np.array([[0, 0], [2, 0], [10, 0], [12, 0]], dtype=np.float32)
    others = np.array([[5, 1], [7, 1]], dtype=np.float32)
    assert training.nearest_centroid(vectors, np.array([3, 3, 5, 5]), others).tolist() == [3, 5]


@pytest.fixture
def clouds():
    """Vectors, labels and units of 120 images in three classes that lie well apart."""
    draw = np.random.default_rng(0)
    labels = np.arange(120) % 3
    vectors = (4 * np.eye(3)[labels] @ draw.normal(size=(3, 10)) + draw.normal(size=(120, 10))).astype(np.float32)
    return vectors, labels, np.array([f"1 {number}" for number in range(120)], dtype=object)


def test_opinions_are_probabilities_that_a_wrong_label_does_not_sway(clouds):
    vectors, true, units = clouds
    labels = true.copy()
    labels[[5, 17]] = (true[[5, 17]] + 1) % 3
    proba = training.label_opinions(vectors, labels, units, find_neighbours(vectors), n_classes=3, seed=0)
    assert proba.shape == (120, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (proba.argmax(axis=1)[[5, 17]] == true[[5, 17]]).all()
    assert proba[5, labels[5]] < 0.2


def test_duplicates_do_not_vouch_for_each_other(clouds):
    vectors, true, units = clouds
    labels = true.copy()
    copies = np.r_[3, 6, 9, 12, 15]  # one picture five times, with the same wrong label each time
    vectors[copies], units[copies], labels[copies] = vectors[3], "1 3", (true[3] + 1) % 3
    proba = training.label_opinions(vectors, labels, units, find_neighbours(vectors), n_classes=3, seed=0)
    assert (proba.argmax(axis=1)[copies] == true[3]).all()


def test_splits_drawn_anew_differ_and_a_seed_repeats_them(clouds):
    vectors, labels, _ = clouds
    vectors = vectors + 4 * np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    split = np.where(np.arange(120) % 5 == 0, "test", "train")
    manifest = pd.DataFrame({"sha256": [f"{n:03}" for n in range(120)], "label": labels.astype(str), "group": ""})
    spec = Spec("logistic_regression", C=0.1)
    options = {"n_splits": 4, "seed": 0}
    found = training.resplit_accuracies(spec, vectors, manifest.assign(split=split), labels, **options)
    assert found.shape == (4,)
    assert (found > 0.33).all()
    assert len(set(found)) > 1
    again = training.resplit_accuracies(spec, vectors, manifest.assign(split=split), labels, **options)
    np.testing.assert_array_equal(found, again)


def test_few_groups_have_fewer_folds_and_still_an_opinion(clouds):
    vectors, labels, _ = clouds
    units = np.array([f"0 patient {label} {number % 2}" for number, label in enumerate(labels)], dtype=object)
    proba = training.label_opinions(vectors, labels, units, find_neighbours(vectors), n_classes=3, seed=0)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
