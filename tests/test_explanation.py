import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV

from lib import registry
from lib.classifiers import Spec
from lib.explanation import HeatMap, heat_map, method, overlay
from lib.prediction import Predictor
from lib.probabilities import Probabilities
from lib.tasks import load_task

SPECS = [
    Spec("logistic_regression", C=0.01),
    Spec("logistic_regression", True, C=0.1),
    Spec("logistic_regression", False, 16, C=0.1),
    Spec("logistic_regression", True, 16, C=1.0),
    Spec("mlp", True, 16, hidden=(8,), alpha=1.0),
]


@pytest.fixture
def predictor(tiny_task):
    return Predictor.from_version(registry.champion(tiny_task))


@pytest.fixture
def refit(predictor, tiny_task):
    """The predictor with another classifier, fitted on the task's vectors; of two classes only, if asked."""

    def fit(spec, classes=3):
        train = load_task(tiny_task, ["train"])
        rows = train.labels < classes
        cv = [(np.arange(rows.sum()), np.arange(rows.sum()))]
        model = CalibratedClassifierCV(spec.build(0), method="temperature", cv=cv, ensemble=False)
        predictor.model = model.fit(train.vectors[rows], train.labels[rows])
        predictor.proba = Probabilities(predictor.model)
        return predictor

    return fit


def pixels_of(predictor, folder, number=0):
    path = sorted(folder.glob("*/*.png"))[number]
    return predictor.encoder.preprocessing.pixels(path.read_bytes())


@pytest.mark.parametrize("spec", SPECS[:4], ids=str)
@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_parts_of_a_linear_model_add_up_to_its_logit(refit, tiny_folder, spec, code):
    predictor = refit(spec)
    pixels = pixels_of(predictor, tiny_folder, 30)
    heat = heat_map(predictor, pixels, code)
    pipeline = predictor.model.calibrated_classifiers_[0].estimator
    logit = pipeline.decision_function(predictor.encoder.encode(pixels[None]))[0, code]
    assert heat.exact
    assert heat.parts.shape == (7, 7)
    assert heat.parts.sum() + heat.rest == pytest.approx(logit, abs=1e-4)
    assert heat.score == pytest.approx(logit, abs=1e-4)
    assert np.ptp(heat.parts) > 0
    assert method(predictor).startswith("exact")


@pytest.mark.parametrize("code", [0, 1])
def test_of_two_classes_one_gains_what_the_other_loses(refit, tiny_folder, code):
    predictor = refit(SPECS[0], classes=2)
    pixels = pixels_of(predictor, tiny_folder)
    logit = predictor.model.calibrated_classifiers_[0].estimator.decision_function(
        predictor.encoder.encode(pixels[None])
    )
    heat = heat_map(predictor, pixels, code)
    assert heat.score == pytest.approx(logit[0] * (1 if code else -1), abs=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_a_network_the_parts_are_what_covering_them_takes_away(refit, tiny_folder):
    predictor = refit(SPECS[4])
    pixels = pixels_of(predictor, tiny_folder)
    proba = predictor.proba(predictor.encoder.encode(pixels[None]))[0]
    code = int(proba.argmax())
    heat = heat_map(predictor, pixels, code)
    assert not heat.exact
    assert method(predictor).startswith("approximate")
    assert heat.score == pytest.approx(np.log(proba[code] / (1 - proba[code])), rel=1e-3)
    covered = pixels.copy()
    covered[:, :32, 32:64] = 0
    less = predictor.proba(predictor.encoder.encode(covered[None]))[0, code]
    assert heat.parts[0, 1] == pytest.approx(heat.score - np.log(less / (1 - less)), rel=1e-2, abs=1e-3)


def test_orange_lies_where_a_part_speaks_for_the_class_and_blue_where_against():
    parts = np.array([[1.0, 0.0], [0.0, -1.0]])
    view = Image.new("RGB", (80, 80), (128, 128, 128))
    pixels = np.asarray(overlay(view, HeatMap(parts, 0.0, 0.0, True), 1.0)).astype(int)
    assert pixels[5, 5, 0] > pixels[5, 5, 2] + 60
    assert pixels[75, 75, 2] > pixels[75, 75, 0] + 60
    assert np.abs(pixels[5, 75] - 128).max() < 12
