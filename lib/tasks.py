"""What stage 01 leaves for the other stages: a task's images, labels and vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.datasets import Dataset
from lib.embeddings import cache_dir, embed, load_vectors
from lib.errors import ArtifactError
from lib.precision import Decision
from lib.prediction import Predictor
from lib.splits import SPLITS
from lib.storage import read_json, read_table, task_dir, write_json, write_table

MANIFEST_FILE, REJECTED_FILE, DATASET_FILE = "manifest.parquet", "rejected.csv", "dataset.json"
CORRECTIONS_FILE = "corrections.csv"  # what was followed of the file of that name beside the data
LEARNING_FILE, COMPARISON_FILE = "learning.json", "comparison.json"  # what 06 and 07 leave
FILES_FILE = "files.parquet"  # what need not be read again; no stage's input, for times of change are in it


@dataclass
class TaskEmbeddings:
    """What stage 01 leaves for the others: images of some splits with their vectors.

    Parameters
    ----------
    manifest : DataFrame
        Rows of the splits asked for; see `datasets.MANIFEST_COLUMNS`.
    vectors : ndarray of shape (n, dim), float32
    labels : ndarray of shape (n,), int
        Codes into `classes`.
    classes : list of str
        All classes of the task, sorted.
    root : Path
        Folder that the manifest's paths are relative to.
    facts : dict
        dataset.json: data, backbone and the reason for it, seed.
    """

    manifest: pd.DataFrame
    vectors: np.ndarray
    labels: np.ndarray
    classes: list[str]
    root: Path
    facts: dict

    def vectors_for(self, predictor: Predictor) -> np.ndarray:
        """Vectors of its images by a predictor's own backbone, (n, dim) float32; computed where it is another one."""
        if predictor.card["backbone"]["fingerprint"] == self.facts["backbone"]["fingerprint"]:
            return self.vectors
        return embed(self.root, self.manifest["path"], self.manifest["sha256"], predictor.encoder).vectors


def save_task(task: str, dataset: Dataset, decision: Decision, *, data_dir: str, reason: str, seed: int) -> list[Path]:
    """Write manifest.parquet, rejected.csv, corrections.csv, dataset.json and files.parquet of a task; their paths.

    Parameters
    ----------
    task : str
    dataset : Dataset
    decision : Decision
        The encoder that embedded the images, and why it is this one.
    data_dir : str
        As the user gave it.
    reason : str
        Why this backbone.
    seed : int
        Drew the split.
    """
    folder, encoder = task_dir(task), decision.encoder
    counts = dataset.manifest["split"].value_counts()
    facts = {
        "task": task,
        "data_dir": data_dir,
        "root": str(dataset.root),
        "data_hash": dataset.data_hash,
        "classes": dataset.classes,
        "n": {split: int(counts.get(split, 0)) for split in SPLITS},
        "n_rejected": len(dataset.rejected),
        "seed": seed,
        "backbone": {
            "name": encoder.name,
            "reason": reason,
            "fingerprint": encoder.fingerprint,
            "export": encoder.folder.name,
            "precision": decision.precision,
            "runtime": decision.runtime,
            "precision_reason": decision.reason,
            "int8_check": vars(decision.check) if decision.check else None,
            "dim": encoder.dim,
            "weights_sha256": encoder.card["weights_sha256"],
            "onnx_sha256": encoder.card["sha256"],
        },
    }
    files = [folder / name for name in (MANIFEST_FILE, REJECTED_FILE, CORRECTIONS_FILE, DATASET_FILE, FILES_FILE)]
    for file, table in zip(files, (dataset.manifest, dataset.rejected, dataset.corrections), strict=False):
        write_table(file, table)
    write_json(files[3], facts)
    write_table(files[4], dataset.files)
    return files


def known_files(task: str) -> pd.DataFrame | None:
    """What an earlier run of a task read of each file, for `read_dataset`; None where there is none to be read."""
    try:
        return read_table(task_dir(task) / FILES_FILE)
    except ArtifactError:
        return None


def kept_images(task: str) -> set[str]:
    """Paths of the images that corrections.csv says to keep as they are: a person has looked at them."""
    table = read_table(task_dir(task) / CORRECTIONS_FILE, text=["image"])
    return set(table.loc[table["action"] == "keep", "image"])


def load_task(task: str, splits: Sequence[str]) -> TaskEmbeddings:
    """Images of the named splits with their vectors; raises ArtifactError before stage 01 has run."""
    folder = task_dir(task)
    facts = read_json(folder / DATASET_FILE)
    manifest = read_table(folder / MANIFEST_FILE)
    manifest = manifest[manifest["split"].isin(splits)].reset_index(drop=True)
    backbone, classes = facts["backbone"], facts["classes"]
    vectors = load_vectors(list(manifest["sha256"]), cache_dir(backbone["fingerprint"]), backbone["dim"])
    codes = {label: code for code, label in enumerate(classes)}
    labels = manifest["label"].map(codes).to_numpy(dtype=int)
    return TaskEmbeddings(manifest, vectors, labels, classes, Path(facts["root"]), facts)
