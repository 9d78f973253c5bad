import numpy as np
import pandas as pd
import pytest

from lib import registry
from lib.errors import ArtifactError, ImageError
from lib.inference import RawPixels
from lib.prediction import Predictor, default_task, tasks
from lib.storage import task_dir


@pytest.fixture
def predictor(tiny_task):
    return Predictor.from_version(registry.champion(tiny_task))


@pytest.fixture
def evaluated(tiny_task):
    """predictions.csv of the champion's evaluation."""
    return pd.read_csv(registry.champion(tiny_task).folder / "predictions.csv")


def test_every_test_image_gets_the_probabilities_of_its_evaluation(predictor, evaluated, tiny_folder):
    answers = predictor.predict([(tiny_folder / path).read_bytes() for path in evaluated["path"]])
    for (_, row), answer in zip(evaluated.iterrows(), answers, strict=True):
        assert answer.label == row["predicted"]
        for label, probability in zip(answer.labels, answer.probabilities, strict=True):
            assert probability == pytest.approx(row[f"proba: {label}"], abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 32, 33])
def test_a_batch_answers_as_single_files_do(predictor, tiny_folder, size):
    files = [path.read_bytes() for path in sorted(tiny_folder.glob("*/*.png"))[:size]]
    together = predictor.predict(files)
    alone = [predictor.predict([data])[0] for data in files]
    for one, other in zip(together, alone, strict=True):
        assert one.labels == other.labels
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_with_one_thread_the_answer_is_the_same_and_the_rest_is_shared(predictor, tiny_folder):
    files = [path.read_bytes() for path in sorted((tiny_folder / "Bag").glob("*.png"))[:4]]
    single = predictor.with_threads(1)
    assert single.model is predictor.model
    assert predictor.encoder is not single.encoder
    for ours, theirs in zip(predictor.predict(files), single.predict(files), strict=True):
        assert ours.labels == theirs.labels
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


def test_a_bad_file_fails_alone(predictor, tiny_folder):
    good, decoded = next(tiny_folder.glob("*/*.png")).read_bytes(), []
    first, second, third = predictor.predict([good, b"text", good], decoded=decoded.append)
    assert decoded == [0, 2]
    assert isinstance(second, ImageError)
    assert first == third


def test_classes_come_from_the_most_to_the_least_probable_and_sum_to_one(predictor, tiny_folder):
    answer = predictor.predict([next(tiny_folder.glob("Bag/*.png")).read_bytes()])[0]
    assert answer.label == "Bag"
    assert list(answer.probabilities) == sorted(answer.probabilities, reverse=True)
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.probability == answer.probabilities[0]


def test_an_answer_has_its_set_its_vector_and_a_decision(predictor, tiny_folder):
    answer = predictor.predict([next(tiny_folder.glob("Bag/*.png")).read_bytes()])[0]
    chosen = predictor.thresholds
    assert answer.vector.shape == (predictor.encoder.dim,)
    assert answer.decision == chosen.decide(answer.probability, answer.distance)
    expected = [
        label
        for number, (label, probability) in enumerate(zip(answer.labels, answer.probabilities, strict=True))
        if number == 0 or probability >= chosen.conformal_threshold
    ]
    assert list(answer.label_set) == expected
    assert answer.distance == pytest.approx(predictor.reference.distances(answer.vector[None])[0], abs=1e-6)


def test_what_was_trained_on_is_near_and_noise_is_unknown(predictor, tiny_folder, save_image):
    path = tiny_folder / predictor.reference.paths[0]
    known, noise = predictor.predict([path.read_bytes(), save_image("noise.png").read_bytes()])
    assert predictor.reference.nearest(known.vector, 1)[0].tolist() == [0]
    assert noise.distance > known.distance
    assert noise.decision == "unknown"


def test_a_version_without_evaluation_and_reference_answers_without_a_decision(predictor, tiny_folder):
    predictor.thresholds = predictor.reference = None
    answer = predictor.predict([next(tiny_folder.glob("Bag/*.png")).read_bytes()])[0]
    assert (answer.label, answer.decision, answer.distance, answer.label_set) == ("Bag", None, None, ())


def test_a_refused_image_is_not_kept_in_memory(predictor, save_image):
    data = save_image("big.png", size=(600, 400)).read_bytes()
    (error,) = predictor.predict([data[: len(data) // 2]])
    assert isinstance(error, ImageError)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_no_file_gives_no_answer(predictor):
    assert predictor.predict([]) == []


def test_a_model_does_not_run_on_another_backbone(predictor):
    with pytest.raises(ArtifactError, match="was trained on efficientnet_lite0"):
        Predictor(predictor.version, RawPixels())


def test_the_only_task_is_the_default(tiny_task):
    assert tasks() == [tiny_task]
    assert default_task(None) == tiny_task
    assert default_task("other") == "other"


def test_without_or_with_several_tasks_one_must_be_named():
    with pytest.raises(ArtifactError, match="none yet"):
        default_task(None)
    for name in ("a", "b"):
        task_dir(name).mkdir(parents=True)
        (task_dir(name) / "deployment.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"several \(a, b\)"):
        default_task(None)
