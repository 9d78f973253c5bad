"""An exported backbone -> its int8 twin, calibrated on a task's own images (ONNX Runtime, static, per channel).

The first layers see the widest ranges. Where rounding them turns the vectors away (EfficientNet-Lite0; ResNet50 stays),
an eighth or a quarter of the layers, counted from the input, keeps fp32: nearly as fast, and much nearer.

Weights are signed and activations unsigned: three times as fast as signed activations on processors with VNNI. The
full 8 bits are used; seven (`reduce_range`) would suit older processors but cost EfficientNet-Lite0 a cosine of 0.97
instead of 0.99. So the card keeps one vector, and an encoder that does not give it on another machine refuses to run.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lib.inference import CARD_FILE, MODEL_FILE, OnnxEncoder, cosines, probe
from lib.storage import atomic_dir, read_json, sha256_file, sha256_json, sweep_temporary, write_json

QUANTIZATION_VERSION = 1  # raise when the same calibration gives another file
CALIBRATION_IMAGES = 256
KEPT_SHARES = (0.0, 1 / 8, 1 / 4)  # of the layers, in fp32; tried in turn
NEAR_COSINE = 0.995  # mean cosine between int8 and fp32 vectors with which a share is taken
BATCH_SIZE = 32


def find_quantized(encoder: OnnxEncoder, training: set[str]) -> OnnxEncoder | None:
    """An int8 twin that was calibrated on some of these training images; None where there is none.

    So a task that grows keeps its twin and its cached vectors, and one whose split is drawn anew calibrates anew.
    """
    for file in sorted(encoder.folder.parent.glob(f"*-int8-*/{CARD_FILE}")):
        card = read_json(file)
        if card["base"] != encoder.fingerprint or card["quantization"] != QUANTIZATION_VERSION:
            continue
        if training.issuperset(card["calibration"]):
            return OnnxEncoder(file.parent, encoder.n_threads)
    return None


def quantize(encoder: OnnxEncoder, pixels: np.ndarray, calibration: Sequence[str]) -> OnnxEncoder:
    """Write the int8 twin of an exported backbone beside it.

    Parameters
    ----------
    encoder : OnnxEncoder
        In fp32.
    pixels : ndarray of shape (n, 3, crop, crop), float32
        What the network will see: the ranges of its activations are measured on it.
    calibration : sequence of str
        Content hashes of the images behind `pixels`, part of the twin's fingerprint.

    Returns
    -------
    OnnxEncoder
    """
    fingerprint = _fingerprint(encoder, calibration)
    folder = encoder.folder.parent / fingerprint
    sweep_temporary(folder.parent)
    expected = _encode(encoder, pixels)
    card = encoder.card | {
        "fingerprint": fingerprint,
        "precision": "int8",
        "base": encoder.fingerprint,
        "calibration": sorted(calibration),
        "quantization": QUANTIZATION_VERSION,
    }
    with atomic_dir(folder) as unchecked:
        for share in KEPT_SHARES:
            n_kept = _to_int8(encoder.folder / MODEL_FILE, unchecked / MODEL_FILE, pixels, share)
            card |= {"n_kept_fp32": n_kept, "sha256": sha256_file(unchecked / MODEL_FILE)}
            write_json(unchecked / CARD_FILE, card)
            twin = OnnxEncoder(unchecked, encoder.n_threads)
            if cosines(_encode(twin, pixels), expected).mean() >= NEAR_COSINE:
                break
        (vector,) = twin.encode(probe(1, encoder.preprocessing.crop))
        write_json(unchecked / CARD_FILE, card | {"probe": [float(f"{value:.6g}") for value in vector]})
    return OnnxEncoder(folder, encoder.n_threads)


def _encode(encoder: OnnxEncoder, pixels: np.ndarray) -> np.ndarray:
    """Vectors of many images, batch by batch."""
    batches = (pixels[start : start + BATCH_SIZE] for start in range(0, len(pixels), BATCH_SIZE))
    return np.concatenate([encoder.encode(batch) for batch in batches])


def _to_int8(source: Path, target: Path, pixels: np.ndarray, share: float) -> int:
    """Write source's network in int8, but for a share of its layers; the number of those that keep fp32."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = iter(pixels)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"pixels": image[None]}

    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    layers = [node.name for node in onnx.load(prepared).graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    kept = layers[: round(share * len(layers))]
    with _hint_dropped():
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
        )
    prepared.unlink()
    return len(kept)


@contextlib.contextmanager
def _hint_dropped() -> Iterator[None]:
    """Without the quantizer's advice to do what has just been done."""
    root = logging.getLogger()
    root.addFilter(_is_no_hint)
    try:
        yield
    finally:
        root.removeFilter(_is_no_hint)


def _is_no_hint(record: logging.LogRecord) -> bool:
    """Whether a log record is anything else."""
    return "pre-processing before quantization" not in record.getMessage()


def _fingerprint(encoder: OnnxEncoder, calibration: Sequence[str]) -> str:
    """Key of an int8 twin's vectors: the network it comes from and the images that set its ranges."""
    parts = {"base": encoder.fingerprint, "calibration": sorted(calibration), "version": QUANTIZATION_VERSION}
    return f"{encoder.fingerprint.rsplit('-', 1)[0]}-int8-{sha256_json(parts)[:12]}"
