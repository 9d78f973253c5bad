"""The service as a process and files that nobody would send on purpose: mutants, bombs, turned photos."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import ask, running
from test_images import STORED, encode

from lib.images import ORIENTATION
from lib.storage import PROJECT_ROOT


@pytest.fixture(scope="module")
def service(tiny_run, shared_environment):
    """One process for all of this module."""
    with running(shared_environment) as service:
        yield service


@pytest.fixture
def mutants(monkeypatch):
    """The generator that benchmarks/mutations.py sends 10,000 of."""
    monkeypatch.syspath_prepend(str(PROJECT_ROOT / "benchmarks"))
    import mutants

    return mutants


def predict(service, data):
    """What is answered to a file: status, headers, parsed body."""
    status, headers, body = ask(service, "POST", "/predict", data)
    return status, headers, json.loads(body)


def megabytes(service, key):
    """A line of /proc/<pid>/status: VmRSS, or VmHWM, the largest since it was last reset."""
    text = Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith(key))


def test_300_mutants_are_answered_or_refused_as_problems(service, mutants):
    found = Counter()
    for number in range(300):
        kind, data = mutants.mutant(number)
        status, headers, answer = predict(service, data)
        found[status] += 1
        assert status in (200, 400, 415, 422), (number, kind)
        if status != 200:
            assert (headers.get_content_type(), answer["status"]) == ("application/problem+json", status), (
                number,
                kind,
            )
    assert min(found[status] for status in (200, 415, 422)) > 20
    assert service.process.poll() is None


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_photo_gets_the_same_answer_whichever_way_the_camera_was_held(service, tiny_folder, format):
    with Image.open(next((tiny_folder / "Ankle boot").glob("*.png"))) as image:
        upright = np.asarray(image.convert("RGB"))[:, 3:]  # 28 x 25, so that a turn also changes the sides
    answers = []
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        photo = Image.fromarray(np.ascontiguousarray(stored(upright)))
        status, _, answer = predict(service, encode(photo, format, exif=exif))
        assert status == 200
        answers.append({one["label"]: one["probability"] for one in answer["predictions"][0]["top"]})
    for answer in answers[1:]:
        assert answer == pytest.approx(answers[0], abs=1e-3)
    _, _, turned = predict(service, encode(Image.fromarray(np.ascontiguousarray(STORED[6](upright))), format))
    turned = {one["label"]: one["probability"] for one in turned["predictions"][0]["top"]}
    assert turned != pytest.approx(answers[0], abs=1e-3)  # so the orientation was needed


def test_a_small_png_of_81_million_pixels_is_refused_at_once_and_takes_no_memory(service, mutants):
    bomb = mutants.oddities.black(9000, 9000)
    assert len(bomb) < 11_000
    predict(service, mutants.oddities.black(100, 100))
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before, started = megabytes(service, "VmRSS"), time.monotonic()
    status, headers, answer = predict(service, bomb)
    assert time.monotonic() - started < 1
    assert (status, headers.get_content_type()) == (422, "application/problem+json")
    assert "9000 x 9000 pixels" in answer["detail"]
    assert megabytes(service, "VmHWM") - before < 20
