"""A chosen backbone -> an ONNX file that was compared with torch, made once and found again by its fingerprint."""

import contextlib
import io
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.backbones.choice import Choice, known_weights_file
from lib.backbones.networks import RECIPES, build
from lib.errors import BackboneError
from lib.images import RECIPE_VERSION, Preprocessing
from lib.inference import CARD_FILE, MODEL_FILE, OnnxEncoder, probe
from lib.storage import atomic_dir, backbones_dir, sha256_file, sha256_json, sweep_temporary, write_json

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-4  # largest difference between ONNX Runtime and torch, relative to the largest value
EXPORT_VERSION = 1  # raise when the exported file changes for the same weights


def load_backbone(choice: Choice, weights: str = "", *, folder: Path | None = None, apart: bool = False) -> OnnxEncoder:
    """The encoder of a chosen backbone; built with torch, checked and exported the first time.

    Parameters
    ----------
    choice : Choice
        From `choose`.
    weights : str
        A file with a state dict of this architecture instead of the ImageNet weights, or "".
    folder : Path, optional
        Where exports are kept; artifacts/backbones by default.
    apart : bool
        Build and export in a process of its own, which gives torch's gigabyte back when it ends.

    Returns
    -------
    OnnxEncoder

    Raises
    ------
    BackboneError
        If the name is unknown, or its weights cannot be had or do not fit.
    """
    folder = folder or backbones_dir()
    file = known_weights_file(choice.name, weights)
    if file and choice.name in RECIPES:
        fingerprint = _fingerprint(choice.name, sha256_file(file), RECIPES[choice.name])
        if (folder / fingerprint / CARD_FILE).exists():
            return OnnxEncoder(folder / fingerprint)
    if not apart:
        return OnnxEncoder(_build_and_export(choice.name, weights, folder))
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return OnnxEncoder(process.submit(_build_and_export, choice.name, weights, folder).result())
    except BrokenProcessPool as error:
        raise BackboneError(
            f"Exporting {choice.name} was ended by the system, as when memory runs out; it needs about 2 GB. Run again."
        ) from error


def _build_and_export(name: str, weights: str, folder: Path) -> Path:
    """The folder of an export, made now unless it is there."""
    network, preprocessing, weights_hash = build(name, weights)
    fingerprint = _fingerprint(name, weights_hash, preprocessing)
    if not (folder / fingerprint / CARD_FILE).exists():
        export(network, preprocessing, folder / fingerprint, name=name, weights_hash=weights_hash)
    return folder / fingerprint


def _fingerprint(name: str, weights_hash: str, preprocessing: Preprocessing) -> str:
    """Key of everything that decides the vectors: architecture, weights, preprocessing, decoding, precision, export."""
    parts = {
        "name": name,
        "weights": weights_hash,
        "preprocessing": preprocessing.to_json() | {"decode_side": preprocessing.decode_side},
        "precision": "fp32",
        "recipe": RECIPE_VERSION,
        "export": EXPORT_VERSION,
    }
    return f"{name.replace('/', '-').replace(':', '-')}-{sha256_json(parts)[:12]}"


def export(
    network: "torch.nn.Module", preprocessing: Preprocessing, folder: Path, *, name: str, weights_hash: str
) -> None:
    """Write a network as folder/backbone.onnx with its card; the folder appears only once it agrees with torch.

    Raises
    ------
    BackboneError
        If the exported file differs from torch by more than TOLERANCE.
    """
    import torch

    pixels = torch.from_numpy(probe(2, preprocessing.crop))
    with torch.inference_mode():
        output = network(pixels)
    names = ["vector", "map"] if isinstance(output, tuple) else ["vector"]
    vector = output[0] if isinstance(output, tuple) else output
    if vector.ndim != 2:
        raise BackboneError(
            f"{name} gives features of shape {tuple(vector.shape)}, not one vector an image; use another."
        )
    sweep_temporary(folder.parent)
    with atomic_dir(folder) as unchecked:
        _to_onnx(network, pixels, names, unchecked / MODEL_FILE)
        card = {
            "name": name,
            "fingerprint": folder.name,
            "dim": vector.shape[1],
            "has_map": len(names) == 2,
            "precision": "fp32",
            "preprocessing": preprocessing.to_json(),
            "weights_sha256": weights_hash,
            "sha256": sha256_file(unchecked / MODEL_FILE),
        }
        write_json(unchecked / CARD_FILE, card)
        difference = torch_difference(network, OnnxEncoder(unchecked))
        if difference > TOLERANCE:
            raise BackboneError(
                f"{name} exported to ONNX differs from torch by {difference:.1e}, over {TOLERANCE:.0e}."
            )
        write_json(unchecked / CARD_FILE, card | {"onnx_torch_difference": difference})


def _to_onnx(network: "torch.nn.Module", pixels: "torch.Tensor", names: list[str], path: Path) -> None:
    """Export with a free batch size into one file."""
    import torch

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own internals
        torch.onnx.export(
            network,
            (pixels,),
            str(path),
            input_names=["pixels"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            dynamo=True,
        )


def torch_difference(network: "torch.nn.Module", encoder: OnnxEncoder, n: int = 5) -> float:
    """Largest difference between ONNX Runtime's vectors and torch's on noise, relative to torch's largest value."""
    import torch

    pixels = probe(n, encoder.preprocessing.crop)
    with torch.inference_mode():
        output = network(torch.from_numpy(pixels))
    expected = (output[0] if isinstance(output, tuple) else output).numpy()
    return float(np.abs(encoder.encode(pixels) - expected).max() / np.abs(expected).max())
