"""Updates: the exact one is training from scratch; the instant one learns, and forgets little."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from synthetic import LINEAR, NETWORK, draw, folds_of

from lib.classifiers import Spec
from lib.errors import DataError
from lib.incremental import Labelled, instant, refit
from lib.probabilities import Probabilities
from lib.training import fit_calibrated

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PIPELINES = [LINEAR, Spec("logistic_regression", root=True, n_components=12, C=1.0), NETWORK]


def clouds(n, n_classes):
    """Seeded clouds around centres that differ in every direction, as those of real classes do."""
    draw = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    centres = draw.normal(size=(n_classes, 100))
    return (draw.normal(size=(n, 100)) + centres[labels]).astype(np.float32), labels


def units_of(labels):
    return np.arange(len(labels)).astype(str)


@pytest.mark.parametrize("spec", PIPELINES, ids=str)
def test_the_exact_update_is_a_training_from_scratch_on_everything(spec):
    vectors, labels, _ = draw(n=150)
    model = refit(spec, Labelled(vectors, labels), units_of(labels), n_folds=4, seed=0)
    scratch = fit_calibrated(spec, vectors, labels, folds_of(labels), seed=0)
    np.testing.assert_array_equal(model.predict_proba(vectors), scratch.predict_proba(vectors))


def test_a_class_of_two_images_has_two_folds_and_one_of_one_is_refused():
    vectors, labels, _ = draw(n=60)
    some = np.concatenate([np.flatnonzero(labels < 2), np.flatnonzero(labels == 2)[:2]])
    model = refit(LINEAR, Labelled(vectors[some], labels[some]), units_of(some), n_folds=5, seed=0)
    assert list(model.classes_) == [0, 1, 2]
    with pytest.raises(DataError, match="at least two"):
        refit(LINEAR, Labelled(vectors[some[:-1]], labels[some[:-1]]), units_of(some[:-1]), n_folds=5, seed=0)


@pytest.mark.parametrize("n_old", [2, 3])
@pytest.mark.parametrize("spec", PIPELINES, ids=str)
def test_the_instant_update_learns_a_new_class_and_keeps_the_old_ones(spec, n_old):
    vectors, labels = clouds(400, n_old + 1)
    train, test = np.arange(300), np.arange(300, 400)
    known = train[labels[train] < n_old]
    old = Labelled(vectors[known], labels[known])
    model = fit_calibrated(spec, old.vectors, old.labels, folds_of(old.labels), seed=0)
    arrived = train[labels[train] == n_old][:30]
    before = {name: value.copy() for name, value in vars(model.calibrated_classifiers_[0].estimator["scaler"]).items()
              if isinstance(value, np.ndarray)}  # fmt: skip
    updated = instant(model, old, Labelled(vectors[arrived], labels[arrived]), n_old + 1, seed=0)
    proba = Probabilities(updated)(vectors[test])
    np.testing.assert_allclose(proba, updated.predict_proba(vectors[test]), atol=1e-6)
    right = proba.argmax(axis=1) == labels[test]
    is_new = labels[test] == n_old
    assert right[is_new].mean() > 0.8
    assert right[~is_new].mean() > 0.9
    scaler = vars(updated.calibrated_classifiers_[0].estimator["scaler"])
    assert all((scaler[name] == value).all() for name, value in before.items())
    assert list(model.classes_) == list(range(n_old))  # the old model is as it was


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("spec", PIPELINES, ids=str)
def test_without_steps_it_answers_as_before(spec, n_classes, monkeypatch):
    vectors, labels, folds = draw(n_classes=n_classes)
    model = fit_calibrated(spec, vectors, labels, folds, seed=0)
    monkeypatch.setattr("lib.incremental.EPOCHS", 0)
    data = Labelled(vectors, labels)
    np.testing.assert_allclose(
        instant(model, data, data, n_classes, seed=0).predict_proba(vectors), model.predict_proba(vectors), atol=1e-5
    )
    wider = instant(model, data, data, n_classes + 1, seed=0).predict_proba(vectors)[:, :n_classes]
    known = wider / wider.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(known, model.predict_proba(vectors), atol=1e-4)


def test_the_same_seed_gives_the_same_update():
    vectors, labels, folds = draw()
    model: CalibratedClassifierCV = fit_calibrated(LINEAR, vectors, labels, folds, seed=0)
    data = Labelled(vectors, labels)
    first, again = (instant(model, data, data, 3, seed=1).predict_proba(vectors) for _ in range(2))
    np.testing.assert_array_equal(first, again)
