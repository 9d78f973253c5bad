import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import reference
from lib.errors import ArtifactError
from lib.neighbours import K
from lib.reference import Reference, draw_reference, novelty_threshold

TEXTS = [f"s{i}" for i in range(12)], [f"a/{i}.png" for i in range(12)], ["a"] * 12


@pytest.fixture
def drawn(save_image, tmp_path):
    """A reference of twelve images with the unit vectors of a circle's degrees 0 to 11; image 3 is gone."""
    paths = [save_image(f"a/{number}.png", seed=number, size=(300, 200)) for number in range(12)]
    paths[3].unlink()
    return draw_reference(tmp_path, *TEXTS, 5 * circle(range(12)), seed=0)


def circle(degrees):
    """Unit vectors at these angles, (n, 2) float32."""
    angles = np.deg2rad(np.array(list(degrees), dtype=float))
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def test_a_reference_holds_unit_vectors_and_small_pictures(drawn):
    np.testing.assert_allclose(np.linalg.norm(drawn.unit, axis=1), 1, rtol=1e-6)
    sizes = [Image.open(io.BytesIO(data)).size for data in drawn.pictures if data]
    assert sizes == [(96, 64)] * 11
    assert drawn.pictures[3] == b""


def test_a_reference_survives_its_file(drawn, tmp_path):
    drawn.write(tmp_path / "reference.parquet")
    again = Reference.read(tmp_path / "reference.parquet")
    np.testing.assert_array_equal(again.unit, drawn.unit)
    assert (again.sha256, again.paths, again.labels) == TEXTS
    assert again.pictures == drawn.pictures


def test_the_nearest_training_images_come_first(drawn):
    places, distances = drawn.nearest(3 * circle([4.2])[0], 3)
    assert places.tolist() == [4, 5, 3]
    np.testing.assert_allclose(distances, 1 - np.cos(np.deg2rad([0.2, 0.8, 1.2])), atol=1e-6)


def test_the_distance_is_that_to_the_tenth_nearest(drawn):
    # From degree 20 the training images lie at 9 to 20 degrees: the tenth nearest is image 2, 18 degrees away.
    assert K == 10
    np.testing.assert_allclose(drawn.distances(circle([20])), 1 - np.cos(np.deg2rad(18)), atol=1e-6)
    # Of its own: image 0's tenth nearest other is image 10.
    np.testing.assert_allclose(drawn.own_distances()[0], 1 - np.cos(np.deg2rad(10)), atol=1e-6)


def test_the_threshold_refuses_the_wanted_share_of_known_images(drawn):
    known = circle(np.linspace(0, 11, 200))
    limit = novelty_threshold(drawn, known, 0.05)
    assert (drawn.distances(known) > limit).mean() == pytest.approx(0.05, abs=0.011)
    alone = novelty_threshold(drawn, known[:0], 0.05)
    assert alone == pytest.approx(np.quantile(drawn.own_distances(), 0.95))


def test_at_most_so_many_images_are_drawn_and_always_the_same(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "MAX_IMAGES", 5)
    few = draw_reference(tmp_path, *TEXTS, circle(range(12)), seed=0)
    assert len(few.labels) == len(few.unit) == 5
    assert few.sha256 == draw_reference(tmp_path, *TEXTS, circle(range(12)), seed=0).sha256
    np.testing.assert_allclose(few.unit[0], circle([int(few.sha256[0][1:])])[0], rtol=1e-6)


def test_another_table_is_no_reference(tmp_path):
    pd.DataFrame({"sha256": ["a"]}).to_parquet(tmp_path / "reference.parquet")
    with pytest.raises(ArtifactError, match="no reference of training images; train again"):
        Reference.read(tmp_path / "reference.parquet")
    (tmp_path / "reference.parquet").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Reference.read(tmp_path / "reference.parquet")
