import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import registry
from lib.prediction import Predictor
from lib.robustness import CORRUPTIONS, corruption_curves, told


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_a_corruption_keeps_size_and_mode_and_grows_with_its_level(image, name):
    function, _, levels = CORRUPTIONS[name]
    before = np.asarray(image, dtype=float)
    damaged = [function(image, level, np.random.default_rng(0)) for level in levels]
    assert all((one.size, one.mode) == (image.size, "RGB") for one in damaged)
    changes = [np.abs(np.asarray(one, dtype=float) - before).mean() for one in damaged]
    assert changes[0] > 0
    if name != "rotation":  # of noise, one angle is as far off as another
        assert changes == sorted(changes)


def test_curves_start_at_the_accuracy_of_intact_images(tiny_task, tiny_folder):
    predictor = Predictor.from_version(registry.champion(tiny_task))
    files = sorted(tiny_folder.glob("*/*.png"))[::6]
    paths = [str(path.relative_to(tiny_folder)) for path in files]
    labels = np.array([predictor.classes.index(path.parent.name) for path in files])
    answers = predictor.predict([path.read_bytes() for path in files])
    right = np.mean([answer.label == path.parent.name for answer, path in zip(answers, files, strict=True)])
    table = corruption_curves(predictor, tiny_folder, paths, labels, seed=0)
    assert sorted(set(table["corruption"])) == sorted(CORRUPTIONS)
    assert (table.loc[table["severity"] == 0, "accuracy"] == right).all()
    assert len(table) == 4 * len(CORRUPTIONS)
    assert (table["n"] == len(files)).all()
    blurred = table[(table["corruption"] == "blur") & (table["severity"] == 3)]["accuracy"].item()
    assert blurred <= right
    again = corruption_curves(predictor, tiny_folder, paths, labels, seed=0)
    assert table.equals(again)


def test_the_costliest_damage_and_what_is_borne_are_told():
    rows = [
        ("blur", "%", 0, 0.0, 100, 0.80, 0.71, 0.87), ("blur", "%", 1, 1.0, 100, 0.79, 0.70, 0.86),
        ("blur", "%", 2, 2.0, 100, 0.60, 0.50, 0.69), ("blur", "%", 3, 4.0, 100, 0.75, 0.66, 0.82),
        ("noise", "grey values", 0, 0.0, 100, 0.80, 0.71, 0.87),
        ("noise", "grey values", 1, 10.0, 100, 0.55, 0.45, 0.64),
    ]  # fmt: skip
    columns = ["corruption", "unit", "severity", "level", "n", "accuracy", "low", "high"]
    said = told(pd.DataFrame(rows, columns=columns))
    assert "Undamaged 0.800; the costliest is noise (10 grey values): 0.550 (95 % CI 0.450 to 0.640)." in said
    assert said.endswith("No clear loss: blur to 1 %.")  # level 4 is borne by luck only: level 2 is not
