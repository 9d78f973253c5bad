import pandas as pd
import pytest
from synthetic import CLASSES, MANIFEST, PROBA

from lib import evaluation, mistakes, registry
from lib.evaluation import PREDICTION_COLUMNS
from lib.prediction import Predictor
from lib.tasks import load_task


@pytest.fixture
def predictions():
    return evaluation.predictions_table(MANIFEST, PROBA, CLASSES)


FAULTS = pd.DataFrame({"image": ["z.png", "z.png", "w.png"], "fault": ["dark", "odd size", "blank"]})


def test_mistakes_come_most_confident_first_with_what_is_odd_about_the_image(predictions):
    wrong = mistakes.mistakes(predictions, FAULTS)
    assert wrong["path"].tolist() == ["z.png", "x.png"]
    assert wrong["fault"].tolist() == ["dark, odd size", ""]
    assert list(wrong.columns) == mistakes.MISTAKE_COLUMNS
    assert wrong.index.tolist() == [0, 1]


def test_without_mistakes_or_faults_the_table_is_empty_and_has_its_columns(predictions):
    right = predictions[predictions["label"] == predictions["predicted"]]
    for faults in (FAULTS, FAULTS[:0]):
        wrong = mistakes.mistakes(right, faults)
        assert wrong.empty
        assert list(wrong.columns) == mistakes.MISTAKE_COLUMNS
    assert mistakes.mistakes(predictions, FAULTS[:0])["fault"].tolist() == ["", ""]


def test_faulty_test_images_are_counted_with_their_mistakes(predictions):
    said = mistakes.told_faults(predictions, FAULTS)
    assert said.startswith("2 test images are faulty themselves (")
    assert "1 dark" in said
    assert said.endswith("; 1 of them are misclassified.")
    assert mistakes.told_faults(predictions, FAULTS[:0]).startswith("No test image is blank")


def test_a_mistake_is_shown_with_both_maps_and_what_was_trained_on(tiny_task):
    predictor = Predictor.from_version(registry.champion(tiny_task))
    test, train = load_task(tiny_task, ["test"]), load_task(tiny_task, ["train"])
    row = test.manifest.iloc[0]
    mistake = pd.DataFrame(
        [(row["sha256"], row["path"], "test", row["label"], "Trouser", 0.7)], columns=PREDICTION_COLUMNS
    )
    ((view, for_answer, for_label, *nearest),) = mistakes.explained_mistakes(predictor, test, train, mistake, 2)
    assert view[1] == f"{row['label']}, answered Trouser (0.70)"
    assert (for_answer[1], for_label[1]) == ("for Trouser", f"for {row['label']}")
    assert len(nearest) == 2
    assert all(text.startswith("trained on: ") for _, text in nearest)
    assert all(max(picture.size) <= 112 for picture, _ in (view, for_answer, for_label, *nearest))
