from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.appearance import MEASURES
from lib.errors import DataError
from lib.inspection import Inspection, inspect_images
from lib.storage import sha256_file


@pytest.fixture
def data(save_image, tmp_path):
    """Thirty different images with random vectors; image 12 has nearly the vector of image 3, 27 that of 5."""
    draw = np.random.default_rng(0)
    paths = [save_image(f"{number}.png", seed=number, size=(32, 32)) for number in range(30)]
    vectors = draw.normal(size=(30, 20)).astype(np.float32)
    vectors[12], vectors[27] = vectors[3] + 0.02, vectors[5] + 0.02
    manifest = pd.DataFrame({"sha256": [sha256_file(path) for path in paths], "path": [path.name for path in paths]})
    manifest["label"], manifest["split"] = "a", ["test"] * 10 + ["train"] * 15 + ["val"] * 5
    return SimpleNamespace(manifest=manifest, vectors=vectors, root=tmp_path)


def test_a_test_image_with_a_near_copy_in_training_is_told_from_the_others(data):
    found = inspect_images(data)
    assert np.flatnonzero(~found.without_copy_in("train", "test")).tolist() == [3]
    assert np.flatnonzero(~found.without_copy_in("val", "test")).tolist() == [5]
    assert np.flatnonzero(~found.without_copy_in("test", "train")).tolist() == [2]


def test_measures_of_a_split_come_in_the_order_of_the_manifest(data):
    found = inspect_images(data)
    assert list(found.measures.columns) == MEASURES
    chosen = found.measures_of(["val"])
    assert list(chosen.index) == list(range(5))
    np.testing.assert_array_equal(chosen, found.measures.iloc[25:])


def test_an_image_that_is_gone_is_named(data):
    (data.root / "7.png").unlink()
    with pytest.raises(DataError, match=r"7\.png cannot be read .*embedding stage"):
        inspect_images(data)


def test_pairs_of_the_same_split_are_no_leak():
    manifest = pd.DataFrame({"path": ["x", "y"], "split": ["test", "test"]})
    pairs = pd.DataFrame({"path": ["x"], "split": ["test"], "other_path": ["y"], "other_split": ["test"]})
    assert Inspection(manifest, pd.DataFrame(), pairs).without_copy_in("train", "test").all()
