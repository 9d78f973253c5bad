import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from lib import embeddings
from lib.embeddings import PART_SIZE, embed, load_vectors, read_cache
from lib.errors import ArtifactError
from lib.inference import RawPixels
from lib.storage import artifacts_dir, sha256_bytes


@dataclass
class CountingEncoder(RawPixels):
    """Raw pixels that count the images they encode."""

    side: int = 4
    encoded: int = 0

    def encode(self, pixels):
        self.encoded += len(pixels)
        return super().encode(pixels)


def quiet(items, total, description):
    return items


@pytest.fixture
def images(save_image, tmp_path):
    """300 images: (root, paths, hashes), more than one part holds."""
    paths = [save_image(f"images/{seed:03d}.png", seed=seed, size=(6, 6)) for seed in range(300)]
    return tmp_path / "images", [path.name for path in paths], [sha256_bytes(path.read_bytes()) for path in paths]


def test_row_i_belongs_to_image_i(images):
    encoder = CountingEncoder()
    result = embed(*images, encoder, progress=quiet)
    expected = encoder.preprocessing.pixels((images[0] / images[1][17]).read_bytes()).ravel()
    np.testing.assert_array_equal(result.vectors[17], expected)
    assert (result.n_cached, result.n_computed) == (0, 300)
    assert result.vectors.dtype == np.float32


def test_what_is_cached_is_not_computed_again_under_any_name(images, tmp_path):
    root, paths, hashes = images
    first = embed(*images, CountingEncoder(), progress=quiet)
    (tmp_path / "renamed").symlink_to(root)
    again = CountingEncoder()
    result = embed(tmp_path / "renamed", paths[::-1], hashes[::-1], again, progress=quiet)
    assert again.encoded == 0
    np.testing.assert_array_equal(result.vectors, first.vectors[::-1])


def test_equal_images_are_computed_once(images):
    root, paths, hashes = images
    encoder = CountingEncoder()
    result = embed(root, [paths[0]] * 5, [hashes[0]] * 5, encoder, progress=quiet)
    assert encoder.encoded == 1
    assert result.vectors.shape == (5, encoder.dim)


def test_a_broken_image_fails_alone_with_its_reason(images):
    root, paths, hashes = images
    data = (root / paths[0]).read_bytes()[:60]
    (root / "cut.png").write_bytes(data)
    paths, hashes = ["cut.png", *paths[:3]], [sha256_bytes(data), *hashes[:3]]
    result = embed(root, paths, hashes, CountingEncoder(), progress=quiet)
    assert list(result.failures) == ["cut.png"]
    assert "decoded" in result.failures["cut.png"] or "broken" in result.failures["cut.png"]
    assert result.vectors.shape[0] == 3


def test_a_file_changed_since_it_was_hashed_is_not_cached_under_the_old_hash(images):
    root, paths, hashes = images
    (root / paths[0]).write_bytes((root / paths[1]).read_bytes())
    result = embed(root, paths[:1], hashes[:1], CountingEncoder(), progress=quiet)
    assert "changed" in result.failures[paths[0]]
    assert embed(root, [], [], CountingEncoder(), progress=quiet).vectors.shape == (0, 48)


KILLED = """
import os, signal, sys
from pathlib import Path
from lib.embeddings import embed
sys.path.insert(0, {tests!r})
from test_embeddings import CountingEncoder, quiet
class Killed(CountingEncoder):
    def encode(self, pixels):
        if self.encoded >= 272:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(pixels)
root = Path({root!r})
embed(root, {paths!r}, {hashes!r}, Killed(), progress=quiet)
"""


def test_killed_at_any_time_it_resumes_and_loses_at_most_one_part(images):
    root, paths, hashes = images
    code = KILLED.format(tests=str(embeddings.Path(__file__).parent), root=str(root), paths=paths, hashes=hashes)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    encoder = CountingEncoder()
    result = embed(*images, encoder, progress=quiet)
    assert result.n_cached == PART_SIZE
    assert encoder.encoded == 300 - PART_SIZE


def test_a_damaged_part_is_computed_again(images):
    embed(*images, CountingEncoder(), progress=quiet)
    part = next(embeddings.cache_dir(CountingEncoder()).glob("part-*.parquet"))
    part.write_bytes(b"damaged")
    encoder = CountingEncoder()
    result = embed(*images, encoder, progress=quiet)
    assert result.n_cached + encoder.encoded == 300
    assert encoder.encoded > 0


def test_progress_is_told_what_is_left_to_do(images):
    root, paths, hashes = images
    embed(root, paths[:10], hashes[:10], CountingEncoder(), progress=quiet)
    told = []
    embed(*images, CountingEncoder(), progress=lambda items, n, text: (told.append((n, text)), items)[1])
    assert told == [(290, "embedding with raw pixels 4 x 4")]


def test_the_bar_shows_rate_and_time_left(capsys):
    for _ in embeddings.progress_bar(range(3), 3, "embedding with x"):
        pass
    shown = capsys.readouterr().err
    assert "embedding with x: 100%" in shown
    assert "images/s" in shown
    assert "00:00<00:00" in shown


def test_real_vectors_survive_the_cache_bit_for_bit(lite0, tiny_folder):
    paths = sorted(str(p.relative_to(tiny_folder)) for p in (tiny_folder / "Bag").glob("*.png"))[:3]
    hashes = [sha256_bytes((tiny_folder / path).read_bytes()) for path in paths]
    fresh = embed(tiny_folder, paths, hashes, lite0, progress=quiet)
    cached = embed(tiny_folder, paths, hashes, lite0, progress=quiet)
    np.testing.assert_array_equal(fresh.vectors, cached.vectors)
    assert (cached.n_cached, cached.n_computed) == (3, 0)


def test_vectors_that_were_never_computed_are_an_artifact_error():
    with pytest.raises(ArtifactError, match="lacks 1 of 1"):
        load_vectors(["0" * 64], "nothing", 4)


def test_reading_ignores_what_was_not_asked_for(images):
    encoder = CountingEncoder()
    embed(*images, encoder, progress=quiet)
    wanted = set(images[2][:2])
    assert set(read_cache(embeddings.cache_dir(encoder), encoder.dim, wanted)) == wanted
    assert embeddings.cache_dir(encoder).is_relative_to(artifacts_dir())
