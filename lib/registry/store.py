"""Model versions: saved whole or not at all, verified before use.

A version is a folder artifacts/<task>/models/<version>/ whose SHA256SUMS lists its files. Models are skops files,
loaded with a fixed list of trusted types; nothing is ever unpickled.
"""

import importlib
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import ArtifactError
from lib.storage import (
    atomic_dir,
    backbones_dir,
    display_path,
    fsync_dir,
    read_json,
    read_table,
    sha256_file,
    sweep_temporary,
    task_dir,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import pandas as pd

MODEL_FILE = "model.skops"
RUNNER_UP_FILE = "runner_up.skops"
CARD_FILE = "card.json"
METRICS_FILE = "metrics.json"
REFERENCE_FILE = "reference.parquet"
PREDICTIONS_FILE = "predictions.csv"
ADDITIONS_FILE = "additions.parquet"  # of an update: images of production that it was trained on besides
ADDITION_COLUMNS = ["sha256", "label", "kept", "held_back", "vector"]
CHANGES_FILE = "changes.csv"  # of an update: test images that it answers otherwise than its parent
CHECKSUMS_FILE = "SHA256SUMS"
REQUIRED_FILES = (MODEL_FILE, CARD_FILE, METRICS_FILE)
# Everything our pipelines are made of that skops does not trust by itself.
TRUSTED_TYPES = (
    "lib.classifiers.ChunkedScaler",
    "lib.classifiers.ExactPCA",
    "lib.classifiers.RootNormalizer",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
)


class _WithoutTorch:
    """An import finder for which torch is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse torch, leave everything else to the other finders."""
        if name == "torch":
            raise ModuleNotFoundError("torch is not imported here")


def _skops() -> Any:
    """The module skops.io, imported without torch.

    skops walks through all modules of scikit-learn, and one of those imports torch where it is installed: seconds and
    hundreds of megabytes that a service does not need.
    """
    finder = _WithoutTorch()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("skops.io")
    finally:
        sys.meta_path.remove(finder)


@dataclass(frozen=True)
class Version:
    """A verified version on disk."""

    name: str
    folder: Path

    @property
    def card(self) -> dict:
        """What the model is: task, classes, spec, backbone, data, provenance."""
        return read_json(self.folder / CARD_FILE)

    @property
    def export(self) -> str:
        """Name of the exported backbone that serves this version; cards of 0.1 name its fingerprint only."""
        backbone = self.card["backbone"]
        return backbone.get("export", backbone["fingerprint"])

    @property
    def export_folder(self) -> Path:
        """Folder of the exported backbone that serves this version."""
        return backbones_dir() / self.export

    @property
    def lineage(self) -> dict:
        """Of an update: parent, method, what was added; {} of a version that was trained from the data alone."""
        return self.card.get("lineage", {})

    @property
    def metrics(self) -> dict:
        """{"selection": ...}, and "test" once it has been evaluated."""
        return read_json(self.folder / METRICS_FILE)

    @property
    def additions(self) -> "pd.DataFrame":
        """Of an update: images of production that it was given besides the task's own; ADDITION_COLUMNS.

        `vector` is float32 in bytes; those `held_back` judged it and were not trained on.
        """
        import pandas as pd  # here, for the service does without it

        path = self.folder / ADDITIONS_FILE
        return read_table(path) if path.exists() else pd.DataFrame(columns=ADDITION_COLUMNS)

    def load(self, file: str = MODEL_FILE) -> Any:
        """The fitted classifier.

        Raises
        ------
        ArtifactError
            If the file holds a type that our pipelines do not consist of, or cannot be read.
        """
        path = self.folder / file
        skops = _skops()
        try:
            return skops.load(path, trusted=list(TRUSTED_TYPES))
        except skops.exceptions.UntrustedTypesFoundException as error:
            raise ArtifactError(
                f"{display_path(path)} holds types this project never writes; not loaded: {error}"
            ) from error
        except Exception as error:  # skops meets broken files with whatever zipfile, json or numpy raise
            raise ArtifactError(f"{display_path(path)} cannot be loaded ({type(error).__name__}: {error}).") from error


def models_dir(task: str) -> Path:
    """Folder of a task's versions."""
    return task_dir(task) / "models"


def new_version_name() -> str:
    """A name that sorts by time: 2026-11-23T17-00-00Z-3f2a."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(2)}"


def save(
    task: str,
    models: dict[str, Any],
    card: dict,
    metrics: dict,
    others: Mapping[str, Callable[[Path], None]] | None = None,
) -> Version:
    """Save a new version; it appears complete with its checksums, or not at all.

    Parameters
    ----------
    task : str
    models : dict of file name -> fitted estimator
        MODEL_FILE and, for the paired comparison, RUNNER_UP_FILE.
    card, metrics : dict
        JSON values.
    others : mapping of file name to callable, optional
        Writes the file to the path it is given: REFERENCE_FILE and, of an update, what `lib.learning` adds.

    Returns
    -------
    Version
    """
    folder = models_dir(task)
    folder.mkdir(parents=True, exist_ok=True)
    sweep_temporary(folder)
    name = new_version_name()
    with atomic_dir(folder / name) as temporary:
        for file, model in models.items():
            _skops().dump(model, temporary / file)
        write_json(temporary / CARD_FILE, {"version": name, **card})
        write_json(temporary / METRICS_FILE, metrics)
        for file, write in (others or {}).items():
            write(temporary / file)
        _write_checksums(temporary, [*models, CARD_FILE, METRICS_FILE, *(others or {})])
    return Version(name, folder / name)


def _write_checksums(folder: Path, files: list[str]) -> None:
    """Write SHA256SUMS in the form `sha256sum -c` reads."""
    write_text(folder / CHECKSUMS_FILE, "".join(f"{sha256_file(folder / file)}  {file}\n" for file in sorted(files)))


def read_checksums(folder: Path) -> dict[str, str]:
    """Content of SHA256SUMS: file -> hash; empty where there is none."""
    path = folder / CHECKSUMS_FILE
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return {file: digest for digest, file in (line.split("  ", 1) for line in lines if "  " in line)}


def add_evaluation(version: Version, metrics: dict, write_predictions: Callable[[Path], None]) -> None:
    """Put test metrics and predictions.csv into a version; killed at any time, its checksums hold.

    The checksums first let go of the two files, then the files are replaced, then the checksums take them in.
    """
    kept = [file for file in read_checksums(version.folder) if file not in (METRICS_FILE, PREDICTIONS_FILE)]
    _write_checksums(version.folder, kept)
    write_predictions(version.folder / PREDICTIONS_FILE)
    write_json(version.folder / METRICS_FILE, metrics)
    fsync_dir(version.folder)
    _write_checksums(version.folder, [*kept, METRICS_FILE, PREDICTIONS_FILE])


def verify(task: str, name: str) -> Version:
    """Compare a version's files with its checksums.

    Raises
    ------
    ArtifactError
        If the version or a required file is missing, or a file differs.
    """
    folder = models_dir(task) / name
    known = versions(task)
    if name not in known:
        raise ArtifactError(f"Task {task!r} has no version {name!r}; it has {', '.join(known) or 'none'}.")
    sums = read_checksums(folder)
    # An interrupted evaluation leaves metrics.json out of the checksums; the model itself is whole.
    needed = [MODEL_FILE, CARD_FILE, *([REFERENCE_FILE] if (folder / REFERENCE_FILE).exists() else [])]
    lacking = [file for file in needed if file not in sums]
    wrong = [file for file, digest in sums.items() if not _matches(folder / file, digest)]
    if lacking or wrong:
        raise ArtifactError(f"Version {name} of {task!r} is damaged ({', '.join([*lacking, *wrong])}); train again.")
    version = Version(name, folder)
    if not (isinstance(version.card, dict) and isinstance(version.metrics, dict)):
        raise ArtifactError(
            f"Version {name} of {task!r} is damaged (its card or metrics are no JSON objects); train again."
        )
    return version


def _matches(path: Path, digest: str) -> bool:
    """Whether a file is there and has this SHA-256."""
    return path.is_file() and sha256_file(path) == digest


def versions(task: str) -> list[str]:
    """Names of a task's versions, oldest first."""
    folder = models_dir(task)
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def latest(task: str) -> Version:
    """The newest version that was trained from the data alone, verified; raises ArtifactError where there is none.

    Updates from feedback are no outcome of the training stage: they have a gate, and perhaps a person, of their own.
    """
    for name in reversed(versions(task)):
        version = verify(task, name)
        if not version.lineage:
            return version
    raise ArtifactError(f"Task {task!r} has no model yet; run the training stage first.")


def find(task: str, name: str) -> Version:
    """The named version, or where the name is empty the newest one that was trained; verified."""
    return verify(task, name) if name else latest(task)
