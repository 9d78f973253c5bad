"""A name -> a frozen, ImageNet-trained network with its weights, preprocessing and fingerprint, exported to ONNX."""

from lib.backbones.accelerated import AGREEMENT, TorchEncoder, gpu_device
from lib.backbones.choice import LITE0, RESNET50, RESNET50_FILE, Choice, choose, torch_cache
from lib.backbones.exporting import load_backbone
from lib.backbones.quantizing import CALIBRATION_IMAGES, find_quantized, quantize

__all__ = [
    "AGREEMENT",
    "CALIBRATION_IMAGES",
    "LITE0",
    "RESNET50",
    "RESNET50_FILE",
    "Choice",
    "TorchEncoder",
    "choose",
    "find_quantized",
    "gpu_device",
    "load_backbone",
    "quantize",
    "torch_cache",
]
