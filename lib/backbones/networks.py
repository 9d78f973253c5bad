"""A name -> a frozen torch network that gives vectors (and feature maps), with its weights and preprocessing.

torch is imported in the functions only.
"""

import contextlib
import difflib
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.backbones.choice import LITE0, RESNET50, is_reachable, known_weights_file, lite0_file, torch_cache
from lib.errors import BackboneError, first_line
from lib.images import Preprocessing
from lib.inference import probe
from lib.storage import display_path, project_path, sha256_bytes, sha256_file

if TYPE_CHECKING:
    import torch

LITE0_SHA256 = "579344248a93e230"  # how the file's SHA-256 starts
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
RECIPES = {
    # torchvision's IMAGENET1K_V1 recipe; V2 is better on ImageNet and worse frozen (pytorch/vision#8382).
    RESNET50: Preprocessing(256, 224, "bilinear", IMAGENET_MEAN, IMAGENET_STD),
    # The one these weights were trained with; ImageNet's mean and std cost ten points.
    LITE0: Preprocessing(256, 224, "bicubic", (127.0,), (128.0,)),
}


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
    file = known_weights_file(name, weights)
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
            f"downloading {file} from torchvision's site failed ({first_line(error)}). Connect once, copy the file to "
            f"that place, give `weights` a file, or use -p backbone {LITE0}, whose weights are installed."
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
            f"The weights of timm's {name} cannot be had ({first_line(error)}). Connect once, give `weights` a file, "
            f"or use -p backbone {LITE0}, whose weights are installed."
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

    file = lite0_file()
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
            f"{display_path(file)} is not a state dict that can be loaded safely ({first_line(error)}); "
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
    pixels = torch.from_numpy(probe(2, crop))
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
