"""The probabilities that are answered are those that scikit-learn's own predict_proba gives."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from synthetic import LINEAR, NETWORK, draw

from lib.classifiers import Spec
from lib.errors import ArtifactError
from lib.probabilities import Probabilities
from lib.training import fit_calibrated

DEEP = Spec("mlp", root=True, n_components=5, hidden=(8, 4), alpha=1.0)
SPECS = [LINEAR, Spec("logistic_regression", root=True, n_components=5, C=10.0), NETWORK, DEEP]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_they_are_those_of_scikit_learn(spec, n_classes):
    vectors, labels, folds = draw(n_classes=n_classes)
    model = fit_calibrated(spec, vectors, labels, folds, seed=0)
    far = np.concatenate([vectors, 30 * vectors])
    before = far.copy()
    proba = Probabilities(model)(far)
    assert proba.dtype == np.float64
    np.testing.assert_array_equal(far, before)
    np.testing.assert_allclose(proba, model.predict_proba(far), atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(Probabilities(model)(far[:1]), proba[:1], atol=1e-6)


def test_a_step_that_is_never_trained_is_refused():
    vectors, labels, folds = draw()
    model = CalibratedClassifierCV(make_pipeline(GaussianNB()), method="temperature", cv=list(folds), ensemble=False)
    with pytest.raises(ArtifactError, match="GaussianNB"):
        Probabilities(model.fit(vectors, labels))
