import numpy as np
import pytest
from PIL import Image, ImageFilter

from lib.appearance import GREY_SIDE, HASH_SIDE, MEASURES, Appearance, appearances


def looks(*images):
    encoder = Appearance()
    pixels = np.stack([encoder.preprocessing.normalise(encoder.preprocessing.view(image)) for image in images])
    return appearances(encoder.encode(pixels))


@pytest.fixture
def scene():
    """A smooth picture of blobs."""
    noise = np.random.default_rng(0).normal(size=(12, 12, 3))
    values = np.clip(128 + 60 * noise, 0, 255).astype(np.uint8)
    return Image.fromarray(values).resize((300, 260), Image.Resampling.BICUBIC)


def test_grey_values_run_from_black_to_white():
    measures = looks(Image.new("RGB", (50, 40)), Image.new("RGB", (50, 40), "white")).measures
    assert list(measures.columns) == MEASURES
    np.testing.assert_allclose(measures["brightness"], [0, 1], atol=1e-6)
    np.testing.assert_allclose(measures["contrast"], 0, atol=1e-6)
    np.testing.assert_allclose(measures["sharpness"], 0, atol=1e-6)


def test_half_black_half_white_has_contrast_one_half():
    image = Image.new("RGB", (224, 224))
    image.paste("white", (112, 0, 224, 224))
    row = looks(image).measures.iloc[0]
    assert row["brightness"] == pytest.approx(0.5, abs=1e-5)
    assert row["contrast"] == pytest.approx(0.5, abs=1e-5)
    assert (row["darkest"], row["brightest"]) == pytest.approx((0, 1), abs=1e-5)


def test_colours_count_as_the_eye_weighs_them():
    measures = looks(*(Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue"))).measures
    np.testing.assert_allclose(measures["brightness"], [0.299, 0.587, 0.114], atol=1e-5)


def test_blur_takes_sharpness_and_brightness_leaves_it():
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 140, 3), dtype=np.uint8))
    darker = scene.point(lambda value: value // 2)
    sharp, blurred, dark = looks(scene, scene.filter(ImageFilter.GaussianBlur(2)), darker).measures["sharpness"]
    assert blurred < 0.6 * sharp
    assert dark == pytest.approx(sharp, rel=0.2)


def test_a_smaller_and_a_darker_copy_have_the_hash_and_grey_copy_of_the_original(scene):
    found = looks(scene, scene.resize((120, 104)), scene.point(lambda value: value // 2), scene.rotate(90))
    agree = (found.hashes[0] * found.hashes).sum(axis=1)
    correlation = found.greys @ found.greys[0]
    assert (agree[:3] >= HASH_SIDE**2 - 1 - 4).all()
    assert agree[3] < 30
    assert (correlation[:3] > 0.99).all()
    assert correlation[3] < 0.5


def test_hashes_are_signs_and_grey_copies_have_length_one_unless_flat(scene):
    found = looks(scene, Image.new("RGB", (9, 9), "gray"))
    assert found.hashes.shape == (2, HASH_SIDE**2 - 1)
    assert set(np.unique(found.hashes)) == {-1.0, 1.0}
    assert found.greys.shape == (2, GREY_SIDE**2)
    np.testing.assert_allclose(np.linalg.norm(found.greys, axis=1), [1, 0], atol=1e-6)


def test_the_encoder_is_one_like_any_other():
    encoder = Appearance()
    vectors = encoder.encode(np.zeros((3, 3, 224, 224), dtype=np.float32))
    assert (vectors.shape, vectors.dtype) == ((3, encoder.dim), np.float32)
    assert encoder.with_threads(1) is encoder
    assert encoder.fingerprint == Appearance().fingerprint != Appearance(448).fingerprint
