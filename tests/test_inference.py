import shutil

import numpy as np
import pytest

from lib.errors import ArtifactError
from lib.inference import MODEL_FILE, OnnxEncoder, RawPixels


def test_a_batch_and_single_images_give_the_same_vectors(lite0):
    pixels = np.random.default_rng(0).standard_normal((32, 3, 224, 224)).astype(np.float32)
    together = lite0.encode(pixels)
    alone = np.concatenate([lite0.encode(image[None]) for image in pixels])
    assert together.shape == (32, 1280)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())


def test_the_vector_is_the_mean_of_the_feature_map(lite0):
    pixels = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    feature_map = lite0.feature_map(pixels)
    assert feature_map.shape == (2, 1280, 7, 7)
    np.testing.assert_allclose(feature_map.mean(axis=(2, 3)), lite0.encode(pixels), atol=1e-5)


def test_a_changed_model_file_is_not_run(lite0, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(lite0.folder, folder)
    data = bytearray((folder / MODEL_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL_FILE).write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        OnnxEncoder(folder).encode(np.zeros((1, 3, 224, 224), np.float32))
    (folder / MODEL_FILE).unlink()
    with pytest.raises(ArtifactError, match="missing"):
        OnnxEncoder(folder).encode(np.zeros((1, 3, 224, 224), np.float32))


def test_a_missing_export_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match="missing"):
        OnnxEncoder(tmp_path)


def test_an_encoder_with_other_threads_is_made_once_and_gives_the_same_vectors(lite0):
    single = lite0.with_threads(1)
    assert lite0.with_threads(1) is single
    assert lite0.with_threads(lite0.n_threads) is lite0
    pixels = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    np.testing.assert_allclose(single.encode(pixels), lite0.encode(pixels), atol=1e-4)


def test_raw_pixels_are_the_image_itself(save_image):
    encoder = RawPixels(side=2)
    path = save_image("a.png", size=(2, 2))
    pixels = encoder.preprocessing.pixels(path.read_bytes())
    from PIL import Image

    expected = np.asarray(Image.open(path)).transpose(2, 0, 1).reshape(1, 12) / 255
    np.testing.assert_allclose(encoder.encode(pixels[None]), expected, atol=1e-6)
    assert encoder.dim == 12


def test_raw_pixels_of_another_size_have_another_fingerprint():
    assert RawPixels(8).fingerprint != RawPixels(16).fingerprint
