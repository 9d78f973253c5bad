"""int8 by ONNX Runtime and bf16 by OpenVINO against fp32, by one measure: what accuracy they cost, and their speed.

For each data set: training images are embedded all three ways; the same classifier is cross-validated on the same
folds; speeds are of the forward pass, taken in turn. int8 is calibrated on other training images than it is judged on,
where there are enough. bf16 needs a processor with AVX512_BF16 or AMX; elsewhere OpenVINO silently counts in fp32.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
from measuring import machine, table

from lib.backbones import CALIBRATION_IMAGES, LITE0, Choice, load_backbone, quantize
from lib.datasets import Dataset, read_dataset
from lib.inference import MODEL_FILE, OnnxEncoder, cosines, n_cores
from lib.metrics import compare_paired
from lib.precision import CHECK_FOLDS, CHECK_SPEC, in_turn
from lib.search import cross_validate
from lib.splits import folds
from lib.storage import project_path

Encode = Callable[[np.ndarray], np.ndarray]


def openvino_bf16(export: OnnxEncoder) -> Encode:
    """The exported network by OpenVINO, told to count in bf16."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": n_cores()}
    network = core.compile_model(core.read_model(str(export.folder / MODEL_FILE)), "CPU", options)
    return lambda pixels: network(pixels)[0]


def pixels_of(dataset: Dataset, table: object, encoder: OnnxEncoder) -> np.ndarray:
    """Preprocessed pixels of a manifest's rows."""
    return np.stack([encoder.preprocessing.pixels((dataset.root / path).read_bytes()) for path in table["path"]])


def seconds_in_turn(encoders: dict[str, Encode], batch: np.ndarray, repeats: int) -> dict[str, float]:
    """Median time of a batch, the encoders taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(repeats):
        for name, encode in encoders.items():
            started = perf_counter()
            encode(batch)
            taken[name].append(perf_counter() - started)
    return {name: median(times) for name, times in taken.items()}


def compare(data_dir: str, backbone: str, n: int) -> list[tuple]:
    """Rows of the table for one data set."""
    dataset = read_dataset(data_dir, seed=0, test_fraction=0.0, val_fraction=0.0, min_class_size=5)
    train = dataset.manifest.drop_duplicates("sha256")
    export = load_backbone(Choice(backbone, "the benchmark asked for it"))
    calibration = in_turn(train, CALIBRATION_IMAGES)
    twin = quantize(export, pixels_of(dataset, calibration, export), list(calibration["sha256"]))
    encoders: dict[str, Encode] = {"fp32": export.encode, "int8": twin.encode, "bf16": openvino_bf16(export)}
    judged = in_turn(train, n, ascending=False)
    labels = np.unique(judged["label"].astype(str), return_inverse=True)[1]
    parts = folds(labels, judged["unit"].to_numpy(), n_folds=CHECK_FOLDS, seed=0)
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in encoders}
    for start in range(0, len(judged), 32):
        batch = pixels_of(dataset, judged.iloc[start : start + 32], export)
        for name, encode in encoders.items():
            vectors[name].append(encode(batch))
    stacked = {name: np.concatenate(batches) for name, batches in vectors.items()}
    guesses = {name: cross_validate(CHECK_SPEC, v, labels, parts, seed=0).argmax(1) for name, v in stacked.items()}
    seconds = seconds_in_turn(encoders, pixels_of(dataset, judged.head(32), export), 9)
    rows = []
    for name in ("int8", "bf16"):
        cosine = cosines(stacked[name], stacked["fp32"])
        pair = compare_paired(labels, guesses[name], guesses["fp32"])
        gap = pair.difference
        shown = f"{100 * gap.value:+.2f} ({100 * gap.low:+.2f} to {100 * gap.high:+.2f})"
        verdict = "passes" if gap.value >= -pair.standard_error else "fails"
        facts = (f"{cosine.mean():.4f}", f"{cosine.min():.4f}", shown, verdict, seconds["fp32"] / seconds[name])
        rows.append((project_path(data_dir).name, len(judged), name, *facts))
    return rows


def main() -> None:
    """Compare on every data set given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["data/sample"], help="folders of class folders")
    parser.add_argument("--backbone", default=LITE0)
    parser.add_argument("--n", type=int, default=1000, help="images judged")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ARTIFACTS_DIR"] = folder
        rows = [row for data in options.data for row in compare(data, options.backbone, options.n)]
    print(f"{options.backbone}. {machine()}.\n")
    columns = ["data", "n", "precision", "cosine, mean", "worst", "accuracy against fp32, points (95 % CI)",
               "one standard error", "times fp32's speed"]  # fmt: skip
    print(table(columns, rows))


if __name__ == "__main__":
    sys.exit(main())
