"""Production as the service would have logged it: images that are answered, and labels that people give."""

import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from conftest import SAMPLE

from lib.prediction import Predictor
from lib.production import Logged, ProductionLog
from lib.storage import artifacts_dir, sha256_bytes


def unseen(label: str, n: int, *, start: int = 24) -> list[tuple[bytes, str]]:
    """Sample images of a class that the tiny task has not seen: (bytes, label)."""
    return [(path.read_bytes(), label) for path in sorted((SAMPLE / label).iterdir())[start : start + n]]


def answered(
    log: ProductionLog, predictor: Predictor, images: Sequence[bytes], *, backbone: str | None = "", version: str = ""
) -> list[str]:
    """Classify images and log the answers: their ids."""
    rows, own = [], predictor.card["backbone"]["fingerprint"] if backbone == "" else backbone
    for data, result in zip(images, predictor.predict(images), strict=True):
        rows.append(
            Logged(uuid.uuid4().hex, version or predictor.version.name, "champion", result.label, result.probability,
                   result.decision, result.distance, 5.0, sha256_bytes(data), result.vector, own)
        )  # fmt: skip
    assert log.record(rows, images)
    return [row.id for row in rows]


def taught(log: ProductionLog, predictor: Predictor, pairs: Iterable[tuple[bytes, str]], **answer: str | None) -> None:
    """Classify images, and give each its label."""
    pairs = list(pairs)
    for id, (_, label) in zip(answered(log, predictor, [data for data, _ in pairs], **answer), pairs, strict=True):
        log.give_feedback(label, predictor.classes, prediction=id, source="somebody")


def copied_task(task: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The artifacts of a task in a folder of this test's own, which it may change; backbones and vectors are shared."""
    shared, own = artifacts_dir(), folder / "own artifacts"
    own.mkdir()
    shutil.copytree(shared / task, own / task)
    for name in ("backbones", "embeddings"):
        (own / name).symlink_to(shared / name)
    monkeypatch.setenv("ARTIFACTS_DIR", str(own))
    monkeypatch.setenv("REPORTS_DIR", str(folder / "reports"))
    return task
