"""Which numbers the network counts in, and which runtime runs it; int8 only where it is as right as fp32."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd

from lib import backbones
from lib.classifiers import Spec
from lib.datasets import Dataset
from lib.embeddings import cache_dir, cached_hashes, embed
from lib.errors import ArtifactError, DataError, ImageError, ParameterError
from lib.inference import CARD_FILE, Encoder, OnnxEncoder, cosines
from lib.metrics import compare_paired
from lib.progress import Progress, progress_bar
from lib.provenance import processor
from lib.search import cross_validate
from lib.splits import folds
from lib.storage import display_path, sha256_json, write_json

PRECISIONS = ("auto", "fp32", "int8", "fp16")
RUNTIMES = ("auto", "onnxruntime", "torch")
CHECK_IMAGES = 1000
CHECK_FOLDS = 5
CHECK_SPEC = Spec("logistic_regression", C=0.01)  # near the best on every backbone tried; both sides get the same
AUTO_IMAGES = 5000  # fewer images left to compute are done before an int8 network is calibrated and checked
AUTO_SPEEDUP = 1.3  # least gain for which `auto` takes int8


@dataclass(frozen=True)
class Check:
    """What int8 did to a task's training images, against fp32 on the same images and folds.

    Parameters
    ----------
    n : int
        Images compared.
    cosine_mean, cosine_min : float
        Between the int8 and the fp32 vector of each image.
    accuracy_fp32, accuracy_int8 : float
        Out of fold, of the same classifier.
    difference, low, high, standard_error : float
        int8 less fp32 on the same images, with its 95 % interval.
    speedup : float
        fp32's time for a batch over int8's, here.
    """

    n: int
    cosine_mean: float
    cosine_min: float
    accuracy_fp32: float
    accuracy_int8: float
    difference: float
    low: float
    high: float
    standard_error: float
    speedup: float

    @property
    def passed(self) -> bool:
        """Whether int8 loses at most one standard error of accuracy."""
        return self.difference >= -self.standard_error

    @property
    def verdict(self) -> str:
        """The comparison in one sentence."""
        loss = "no more than" if self.passed else "more than"
        return (
            f"On {self.n:,} training images int8 is {100 * self.difference:+.2f} points from fp32 (95 % CI "
            f"{100 * self.low:+.2f} to {100 * self.high:+.2f}), a loss of {loss} one standard error "
            f"({100 * self.standard_error:.2f} points), at {self.speedup:.1f} times the speed"
        )

    @property
    def table(self) -> pd.DataFrame:
        """Two columns, what was measured and its value, for people."""
        interval = f"{100 * self.difference:+.2f} points ({100 * self.low:+.2f} to {100 * self.high:+.2f})"
        rows = [
            ("cosine of int8 and fp32 vectors, mean", f"{self.cosine_mean:.4f}"),
            ("cosine of int8 and fp32 vectors, worst image", f"{self.cosine_min:.4f}"),
            ("out-of-fold accuracy, fp32", f"{self.accuracy_fp32:.3f}"),
            ("out-of-fold accuracy, int8", f"{self.accuracy_int8:.3f}"),
            ("difference, 95 % interval", interval),
            ("standard error of the difference", f"{100 * self.standard_error:.2f} points"),
            ("speed of the forward pass against fp32", f"{self.speedup:.1f} times"),
            ("verdict", "int8 may be used" if self.passed else "int8 loses too much: fp32 is kept"),
        ]
        return pd.DataFrame(rows, columns=["measured", "value"])


@dataclass(frozen=True)
class Decision:
    """The encoder that embeds, why in one sentence, and the comparison that was made for it, if any."""

    encoder: Encoder
    precision: str
    runtime: str
    reason: str
    check: Check | None = None

    @property
    def tolerance(self) -> float:
        """Largest difference, relative to the largest value, between two ways to the same vector."""
        return 1e-4 if self.runtime == "onnxruntime" else backbones.AGREEMENT[self.precision]


def choose_encoder(
    export: OnnxEncoder,
    dataset: Dataset,
    *,
    weights: str = "",
    precision: str = "fp32",
    runtime: str = "auto",
    seed: int = 0,
    progress: Progress = progress_bar,
) -> Decision:
    """Decide how a backbone runs on a data set.

    Parameters
    ----------
    export : OnnxEncoder
        The backbone in fp32.
    dataset : Dataset
        Its training images calibrate and check int8.
    weights : str
        The weights file that the export was made with, or "".
    precision : {"auto", "fp32", "int8", "fp16"}
        "auto" takes int8 where many images are left to compute (or its network is there already), it is faster here
        and as right; else fp32. "fp16" is for GPUs.
    runtime : {"auto", "onnxruntime", "torch"}
        "auto" takes torch on a GPU, else ONNX Runtime.
    seed : int
        Draws the folds of the comparison.
    progress : callable

    Raises
    ------
    ParameterError
        For another name, or two that do not go together.
    BackboneError
        If torch's vectors are not those of the export that serves.
    """
    _check_names(precision, runtime)
    device = backbones.gpu_device() if precision != "int8" and runtime != "onnxruntime" else ""
    if precision == "fp16" and not device:
        raise ParameterError("precision=fp16 needs a GPU (CUDA or MPS) and there is none here; use int8, fp32 or auto.")
    if device or runtime == "torch":
        return _by_torch(export, dataset, weights, device or "cpu", "fp16" if precision == "fp16" else "fp32")
    if precision == "fp32":
        return Decision(export, "fp32", "onnxruntime", "fp32 by ONNX Runtime on the CPU")
    train = dataset.manifest[dataset.manifest["split"] == "train"].drop_duplicates("sha256")
    twin = backbones.find_quantized(export, set(train["sha256"]))
    if precision == "auto" and (left := _n_left(export, dataset)) <= (0 if twin else AUTO_IMAGES):
        reason = f"auto: fp32, for only {left:,} images are left to compute; int8 pays above {AUTO_IMAGES:,}"
        return Decision(export, "fp32", "onnxruntime", reason)
    return _by_int8(export, twin, dataset.root, train, seed=seed, asked=precision == "int8", progress=progress)


def _check_names(precision: str, runtime: str) -> None:
    """Refuse unknown names, and pairs that do not exist."""
    for kind, name, known in (("precision", precision, PRECISIONS), ("runtime", runtime, RUNTIMES)):
        if name not in known:
            raise ParameterError(f"There is no {kind} {name!r}; the choices are {', '.join(known)}.")
    if (precision, runtime) in (("int8", "torch"), ("fp16", "onnxruntime")):
        other = "onnxruntime" if precision == "int8" else "torch"
        raise ParameterError(f"precision={precision} runs by {other} only; leave runtime at auto.")


def _n_left(encoder: Encoder, dataset: Dataset) -> int:
    """Distinct images whose vectors are not cached yet."""
    return len(set(dataset.manifest["sha256"]) - cached_hashes(cache_dir(encoder.fingerprint)))


def _by_torch(export: OnnxEncoder, dataset: Dataset, weights: str, device: str, precision: str) -> Decision:
    """torch on a device, after 32 images agreed with the export that serves; not asked where all is cached."""
    encoder = backbones.TorchEncoder(export, weights, device, precision)
    reason = f"{precision} by torch on {device}"
    if _n_left(encoder, dataset):
        _, pixels = _usable(dataset.root, in_turn(dataset.manifest, 32), encoder)
        reason += f", whose vectors differ from those of the export that serves by {encoder.check(pixels):.1e}"
    return Decision(encoder, precision, "torch", reason)


def _by_int8(
    export: OnnxEncoder,
    twin: OnnxEncoder | None,
    root: Path,
    train: pd.DataFrame,
    *,
    seed: int,
    asked: bool,
    progress: Progress,
) -> Decision:
    """int8 if it passes its check, else fp32 and why."""
    try:
        twin = twin or _calibrated(export, root, train)
        check = _check(export, twin, root, train, seed=seed, progress=progress)
        _ = twin.session  # refuses a processor that computes int8 otherwise
    except (DataError, ArtifactError) as error:
        if asked and isinstance(error, ArtifactError):
            raise
        return Decision(export, "fp32", "onnxruntime", f"fp32, for int8 cannot be held against it: {error}")
    if not check.passed:
        return Decision(export, "fp32", "onnxruntime", f"fp32 is kept. {check.verdict}.", check)
    if not asked and check.speedup < AUTO_SPEEDUP:
        reason = f"auto: fp32. {check.verdict}, less than {AUTO_SPEEDUP} times."
        return Decision(export, "fp32", "onnxruntime", reason, check)
    return Decision(twin, "int8", "onnxruntime", f"{'' if asked else 'auto: '}int8. {check.verdict}.", check)


def in_turn(train: pd.DataFrame, n: int, *, ascending: bool = True) -> pd.DataFrame:
    """At most n rows, the classes in turn, each class in the order of its content hashes: always the same images."""
    ordered = train.sort_values("sha256", ascending=ascending, kind="stable")
    turn = ordered.groupby("label").cumcount()
    return ordered.assign(turn=turn).sort_values("turn", kind="stable").head(n).drop(columns="turn")


def _calibrated(export: OnnxEncoder, root: Path, train: pd.DataFrame) -> OnnxEncoder:
    """A new int8 twin, calibrated on training images."""
    seen, pixels = _usable(root, in_turn(train, backbones.CALIBRATION_IMAGES), export)
    return backbones.quantize(export, pixels, list(seen["sha256"]))


def _usable(root: Path, rows: pd.DataFrame, encoder: Encoder) -> tuple[pd.DataFrame, np.ndarray]:
    """Those rows of a manifest whose files can be decoded, and their pixels, (n, 3, crop, crop) float32.

    Raises
    ------
    DataError
        If there is none.
    """
    decoded = []
    for path in rows["path"]:
        try:
            decoded.append(encoder.preprocessing.pixels((root / path).read_bytes()))
        except (ImageError, OSError):
            decoded.append(None)  # embedding names it among the failures
    found = [pixels is not None for pixels in decoded]
    if not any(found):
        raise DataError(f"Not one of {len(rows)} images in {display_path(root)} that were tried can be decoded.")
    return rows[found], np.stack([pixels for pixels in decoded if pixels is not None])


def _check(
    export: OnnxEncoder, twin: OnnxEncoder, root: Path, train: pd.DataFrame, *, seed: int, progress: Progress
) -> Check:
    """The comparison on these training images: the one on the twin's card if it was made on them here, or a new one."""
    chosen = in_turn(train, max(CHECK_IMAGES, 5 * train["label"].nunique()), ascending=False)
    rows = chosen[["sha256", "label", "unit"]].to_numpy().tolist()
    key = sha256_json([rows, seed, CHECK_FOLDS, CHECK_SPEC.to_json(), processor()])
    if twin.card.get("check_key") != key:
        check = _compare(export, twin, root, chosen, seed=seed, progress=progress)
        twin.card |= {"check": vars(check).copy(), "check_key": key}
        write_json(twin.folder / CARD_FILE, twin.card)
    return Check(**twin.card["check"])


def _compare(
    export: OnnxEncoder, twin: OnnxEncoder, root: Path, chosen: pd.DataFrame, *, seed: int, progress: Progress
) -> Check:
    """Embed images both ways and cross-validate the same classifier on both."""
    both = [embed(root, chosen["path"], chosen["sha256"], encoder, progress=progress) for encoder in (export, twin)]
    chosen = chosen[chosen["sha256"].isin(both[0].sha256)]
    labels = np.unique(chosen["label"].astype(str), return_inverse=True)[1]
    parts = folds(labels, chosen["unit"].to_numpy(), n_folds=CHECK_FOLDS, seed=seed)
    before, after = (
        cross_validate(CHECK_SPEC, result.vectors, labels, parts, seed=seed).argmax(axis=1) for result in both
    )
    pair = compare_paired(labels, after, before)
    nearness = cosines(both[0].vectors, both[1].vectors)
    return Check(
        n=len(labels),
        cosine_mean=float(nearness.mean()),
        cosine_min=float(nearness.min()),
        accuracy_fp32=float((before == labels).mean()),
        accuracy_int8=float((after == labels).mean()),
        difference=float(pair.difference.value),
        low=float(pair.difference.low),
        high=float(pair.difference.high),
        standard_error=float(pair.standard_error),
        speedup=_speedup(export, twin, _usable(root, chosen.head(32), export)[1]),
    )


def _speedup(export: OnnxEncoder, twin: OnnxEncoder, batch: np.ndarray, repeats: int = 3) -> float:
    """Median time of a batch in fp32 over that in int8, taken in turn."""
    seconds: dict[str, list[float]] = {"fp32": [], "int8": []}
    for _ in range(repeats):
        for name, encoder in (("fp32", export), ("int8", twin)):
            started = perf_counter()
            encoder.encode(batch)
            seconds[name].append(perf_counter() - started)
    return median(seconds["fp32"]) / median(seconds["int8"])
