"""A name -> a frozen, ImageNet-trained network with its weights, preprocessing and fingerprint, exported to ONNX."""

from lib.backbones.choice import LITE0, RESNET50, RESNET50_FILE, Choice, choose, torch_cache
from lib.backbones.exporting import load_backbone

__all__ = ["LITE0", "RESNET50", "RESNET50_FILE", "Choice", "choose", "load_backbone", "torch_cache"]
