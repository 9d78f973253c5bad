import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest

from lib.embeddings import PART_SIZE, cache_dir, cached_hashes, embed, load_vectors, vector_facts, write_part
from lib.errors import ArtifactError, ParameterError
from lib.inference import RawPixels
from lib.progress import quiet
from lib.storage import PROJECT_ROOT, artifacts_dir, sha256_bytes


@dataclass
class CountingEncoder(RawPixels):
    """Raw pixels that count the images they encode."""

    side: int = 4
    encoded: int = 0

    def encode(self, pixels):
        self.encoded += len(pixels)
        return super().encode(pixels)


@pytest.fixture
def images(save_image, tmp_path):
    """400 images: (root, paths, hashes), more than one part holds."""
    paths = [save_image(f"images/{seed:03d}.png", seed=seed, size=(6, 6)) for seed in range(400)]
    return tmp_path / "images", [path.name for path in paths], [sha256_bytes(path.read_bytes()) for path in paths]


def test_row_i_belongs_to_image_i(images):
    encoder = CountingEncoder()
    result = embed(*images, encoder, progress=quiet)
    expected = encoder.preprocessing.pixels((images[0] / images[1][17]).read_bytes()).ravel()
    np.testing.assert_array_equal(result.vectors[17], expected)
    assert (result.n_cached, result.n_computed) == (0, 400)
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
from lib.embeddings import cache_dir, embed
sys.path.insert(0, {tests!r})
from test_embeddings import CountingEncoder
from lib.progress import quiet
class Killed(CountingEncoder):
    def encode(self, pixels):
        if list(cache_dir(self.fingerprint).glob("part-*")):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(pixels)
root = Path({root!r})
embed(root, {paths!r}, {hashes!r}, Killed(), progress=quiet)
"""


def test_killed_at_any_time_it_resumes_and_loses_at_most_one_part(images):
    root, paths, hashes = images
    code = KILLED.format(tests=str(PROJECT_ROOT / "tests"), root=str(root), paths=paths, hashes=hashes)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    encoder = CountingEncoder()
    result = embed(*images, encoder, progress=quiet)
    assert result.n_cached == PART_SIZE
    assert encoder.encoded == 400 - PART_SIZE


def test_a_damaged_part_is_computed_again(images):
    embed(*images, CountingEncoder(), progress=quiet)
    part = next(cache_dir(CountingEncoder().fingerprint).glob("part-*.parquet"))
    part.write_bytes(b"damaged")
    encoder = CountingEncoder()
    result = embed(*images, encoder, progress=quiet)
    assert result.n_cached + encoder.encoded == 400
    assert encoder.encoded > 0


def test_progress_is_told_what_is_left_to_do(images):
    root, paths, hashes = images
    embed(root, paths[:10], hashes[:10], CountingEncoder(), progress=quiet)
    told = []
    embed(*images, CountingEncoder(), progress=lambda items, n, text: (told.append((n, text)), items)[1])
    assert told == [(390, "embedding with raw pixels 4 x 4")]


def test_real_vectors_survive_the_cache_bit_for_bit(lite0, tiny_folder):
    paths = sorted(str(p.relative_to(tiny_folder)) for p in (tiny_folder / "Bag").glob("*.png"))[:3]
    hashes = [sha256_bytes((tiny_folder / path).read_bytes()) for path in paths]
    embed(tiny_folder, paths, hashes, lite0, progress=quiet)
    cached = embed(tiny_folder, paths, hashes, lite0, progress=quiet)
    pixels = np.stack([lite0.preprocessing.pixels((tiny_folder / path).read_bytes()) for path in paths])
    np.testing.assert_array_equal(cached.vectors, lite0.encode(pixels))
    assert (cached.n_cached, cached.n_computed) == (3, 0)


def test_vectors_that_were_never_computed_are_an_artifact_error():
    with pytest.raises(ArtifactError, match="lacks 1 of 1"):
        load_vectors(["0" * 64], cache_dir("nothing"), 4)


def test_rows_come_in_the_order_asked_for_whatever_the_parts_hold(images):
    encoder = CountingEncoder()
    everything = embed(*images, encoder, progress=quiet)
    hashes = images[2]
    asked = [hashes[299], hashes[3], hashes[299], hashes[0]]
    np.testing.assert_array_equal(
        load_vectors(asked, cache_dir(encoder.fingerprint), encoder.dim), everything.vectors[[299, 3, 299, 0]]
    )
    assert cache_dir(encoder.fingerprint).is_relative_to(artifacts_dir())


def test_a_part_is_stored_plain_so_that_it_is_read_without_unpacking(images):
    embed(*images, CountingEncoder(), progress=quiet)
    part = next(cache_dir(CountingEncoder().fingerprint).glob("part-*.parquet"))
    column = pq.ParquetFile(part).metadata.row_group(0).column(1)
    assert column.compression == "UNCOMPRESSED"
    assert set(column.encodings) == {"PLAIN", "RLE"}  # RLE: the levels of the list, not its values


def test_a_bit_flipped_in_the_vectors_is_noticed_and_the_part_made_anew(images):
    vectors = {f"{i:064d}": np.full(50, i, dtype=np.float32) for i in range(20)}
    write_part(cache_dir("x"), vectors)
    part = next(cache_dir("x").glob("part-*.parquet"))
    data = bytearray(part.read_bytes())
    where = data.index(np.float32(13).tobytes() * 50)
    data[where] ^= 1
    part.write_bytes(data)
    with pytest.raises(ArtifactError, match="is damaged; run the embedding stage again"):
        load_vectors(list(vectors), cache_dir("x"), 50)
    assert cached_hashes(cache_dir("x")) == set(vectors)  # nothing is deleted by looking
    embed(*images, CountingEncoder(), folder=cache_dir("x"), progress=quiet)
    assert cached_hashes(cache_dir("x")) == set(images[2])


def test_a_part_that_cannot_be_read_for_another_reason_stays(images, monkeypatch):
    embed(*images, CountingEncoder(), progress=quiet)
    folder = cache_dir(CountingEncoder().fingerprint)
    before = sorted(folder.iterdir())

    def too_many_files(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pq, "read_table", too_many_files)
    with pytest.raises(OSError, match="Too many open files"):
        embed(*images, CountingEncoder(), progress=quiet)
    assert sorted(folder.iterdir()) == before


def test_facts_of_vectors_are_those_of_the_whole_matrix():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(600, 5)).astype(np.float32)
    matrix[:, 2] = 7
    hashes = [f"{i:064d}" for i in range(600)]
    for start in (0, 256, 512):
        write_part(cache_dir("x"), dict(zip(hashes[start : start + 256], matrix[start : start + 256], strict=False)))
    facts = vector_facts([*hashes[::-1], hashes[0]], cache_dir("x"), 5)
    np.testing.assert_allclose(facts.norms, np.linalg.norm([*matrix[::-1], matrix[0]], axis=1), rtol=1e-6)
    assert facts.n_dead == 1
    assert facts.all_finite
    write_part(cache_dir("x"), {"f" * 64: np.array([1, np.nan, 7, 1, 1], dtype=np.float32)})
    assert not vector_facts([*hashes, "f" * 64], cache_dir("x"), 5).all_finite


def test_an_unknown_engine_names_the_choices(images):
    with pytest.raises(ParameterError, match=r"no engine 'spark'; the engines are local, ray"):
        embed(*images, CountingEncoder(), engine="spark", progress=quiet)


FULL = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_embeddings import CountingEncoder
from lib.embeddings import embed
from lib.errors import DiskFullError
from lib.progress import quiet
try:
    embed(Path({root!r}), {paths!r}, {hashes!r}, CountingEncoder(), folder=Path("/mnt/cache"), progress=quiet)
except DiskFullError as error:
    print(error)
filler = Path("/mnt/filler")
filler.unlink()
encoder = CountingEncoder()
result = embed(Path({root!r}), {paths!r}, {hashes!r}, encoder, folder=Path("/mnt/cache"), progress=quiet)
print(result.n_cached, encoder.encoded, len(result.vectors), len(list(Path("/mnt/cache").glob(".tmp-*"))))
"""


def test_a_full_disk_is_one_sentence_and_the_parts_written_before_are_used(images):
    root, paths, hashes = images
    code = FULL.format(tests=str(PROJECT_ROOT / "tests"), root=str(root), paths=paths, hashes=hashes)
    # A part of 256 vectors takes 68 kB: it has room, the 37 kB of the next have not until the filler is gone.
    disk = f"mount -t tmpfs -o size=144k none /mnt && head -c 64k /dev/zero > /mnt/filler && exec {sys.executable} -"
    result = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", disk], input=code, capture_output=True, text=True
    )
    said, again = result.stdout.splitlines()
    assert said.startswith("The disk that holds /mnt/cache is full; free some space and run again")
    assert again == "256 144 400 0", result.stderr
