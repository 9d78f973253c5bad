import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from lib.backbones import (
    LITE0,
    RESNET50,
    RESNET50_FILE,
    Choice,
    choice,
    choose,
    exporting,
    load_backbone,
    networks,
)
from lib.errors import BackboneError
from lib.images import decode
from lib.inference import OnnxEncoder, cosines

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
# Golden features of EfficientNet-Lite0 in fp32: a wrong normalisation is nearly invisible behind a classifier.
GOLDEN = {
    "china.jpg": {"mean": 0.17159, "norm": 15.1246, "argmax": 164, "max": 3.0507},
    "flower.jpg": {"mean": 0.18031, "norm": 16.3126, "argmax": 303, "max": 3.9128},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_lite0_gives_its_golden_features(lite0, name):
    vector = lite0.encode(lite0.preprocessing.pixels((PHOTOS / name).read_bytes())[None])[0]
    assert vector.mean() == pytest.approx(GOLDEN[name]["mean"], rel=1e-3)
    assert np.linalg.norm(vector) == pytest.approx(GOLDEN[name]["norm"], rel=1e-3)
    assert vector.argmax() == GOLDEN[name]["argmax"]
    assert vector.max() == pytest.approx(GOLDEN[name]["max"], rel=1e-3)


def test_lite0_agrees_with_torch(lite0):
    network, preprocessing, weights_hash = networks.build(LITE0)
    assert exporting.torch_difference(network, lite0) < 1e-4
    assert preprocessing == lite0.preprocessing
    assert weights_hash == lite0.card["weights_sha256"]
    assert weights_hash.startswith("579344248a93e230")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("name", GOLDEN)
def test_a_large_jpeg_decoded_at_a_quarter_gives_nearly_the_same_vector(lite0, name, mode):
    photo = Image.open(PHOTOS / name).resize((4000, 3000), Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=90)
    recipe = lite0.preprocessing
    assert decode(buffer.getvalue(), min_side=recipe.decode_side).size == (1000, 750)
    quick = recipe.pixels(buffer.getvalue())
    whole = recipe.normalise(recipe.view(decode(buffer.getvalue())))
    assert cosines(*(lite0.encode(pixels[None]) for pixels in (quick, whole)))[0] >= 0.998


def test_a_second_load_finds_the_export_without_torch(lite0, monkeypatch):
    monkeypatch.setattr(exporting, "build", lambda *_: pytest.fail("it was built again"))
    again = load_backbone(Choice(LITE0, ""), folder=lite0.folder.parent)
    assert again.folder == lite0.folder


@pytest.fixture
def torch_cache(tmp_path):
    """The empty torch cache of this test."""
    cache = choice.torch_cache()
    assert cache.is_relative_to(tmp_path)
    cache.mkdir(parents=True)
    return cache


def seeded_state_dict(name):
    """Weights of a torchvision model drawn with a fixed seed."""
    import torch
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None).state_dict()


def test_resnet50_comes_through_torchvisions_own_loading_code(torch_cache, tmp_path):
    import torch
    import torchvision

    state = seeded_state_dict("resnet50")
    torch.save(state, torch_cache / RESNET50_FILE)
    encoder = load_backbone(choose("auto"), folder=tmp_path / "backbones")
    assert encoder.name == RESNET50
    assert encoder.dim == 2048
    network = torchvision.models.resnet50()
    network.load_state_dict(state)
    network.fc = torch.nn.Identity()
    pixels = np.random.default_rng(1).standard_normal((3, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(encoder.encode(pixels), expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(encoder.feature_map(pixels).mean((2, 3)), expected, atol=1e-4 * np.abs(expected).max())


def test_resnet50_preprocessing_is_torchvisions_v1_recipe():
    import torch
    import torchvision

    image = Image.open(PHOTOS / "flower.jpg").convert("RGB")
    expected = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()(image)
    ours = networks.RECIPES[RESNET50]
    difference = torch.from_numpy(ours.normalise(ours.view(image))) - expected
    assert difference.abs().max() < 0.02  # less than one grey level


WITHOUT_TORCH = """
import sys
from pathlib import Path
from lib.backbones import LITE0, Choice, choose, load_backbone
from lib.errors import BackboneError
from lib.inference import OnnxEncoder, cosines
print(load_backbone(Choice(LITE0, ""), folder=Path(sys.argv[1]), apart=True).folder.name)
try:
    load_backbone(choose("resnet5o"), folder=Path(sys.argv[1]), apart=True)
except BackboneError as error:
    print(error)
print("torch" in sys.modules)
"""


def test_exported_apart_it_is_the_same_and_torch_stays_outside(lite0, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)]
    name, error, imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert name == lite0.folder.name
    assert "the nearest name is 'resnet50'" in error
    assert imported == "False"
    pixels = networks.probe(2, 224)
    np.testing.assert_array_equal(OnnxEncoder(tmp_path / name).encode(pixels), lite0.encode(pixels))


def test_weights_that_cannot_be_had_say_what_was_tried_and_what_to_do(tmp_path):
    with pytest.raises(BackboneError, match=r"resnet50-0676ba61\.pth.*`weights`.*-p backbone efficientnet_lite0"):
        load_backbone(choose(RESNET50), folder=tmp_path)


def test_timm_weights_that_cannot_be_had_say_what_to_do(tmp_path):
    with pytest.raises(BackboneError, match=r"timm's resnetv2_50.*-p backbone efficientnet_lite0"):
        load_backbone(choose("resnetv2_50"), folder=tmp_path)


def test_auto_is_resnet50_where_its_weights_can_be_downloaded():
    chosen = choose("auto", reachable=lambda url: url == choice.RESNET50_URL)
    assert chosen.name == RESNET50
    assert "downloaded" in chosen.reason


def test_auto_is_lite0_offline_and_says_why():
    chosen = choose("auto")
    assert chosen.name == LITE0
    assert "neither in the torch cache" in chosen.reason


def test_auto_does_not_ask_the_network_where_the_cache_has_the_weights(torch_cache):
    (torch_cache / RESNET50_FILE).write_bytes(b"weights")
    assert choose("auto", reachable=lambda _: pytest.fail("asked")).name == RESNET50


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(BackboneError, match=r"'resnet5o'.*'resnet50'"):
        load_backbone(choose("resnet5o"), folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "dim", "has_map"),
    [
        ("resnet18", 512, True),  # torchvision, linear head
        ("squeezenet1_0", 512, True),  # torchvision, no linear head
        ("mobilenet_v3_small", 1024, False),  # torchvision, a layer between pooling and head
        ("mobilenetv3_small_050", 1024, False),  # timm
    ],
)
def test_other_models_come_with_a_weights_file(tmp_path, name, dim, has_map):
    import timm
    import torch
    import torchvision

    make = torchvision.models.get_model if name in torchvision.models.list_models() else timm.create_model
    torch.save(make(name).state_dict(), tmp_path / "weights.pth")
    encoder = load_backbone(choose(name, "weights.pth"), str(tmp_path / "weights.pth"), folder=tmp_path / "backbones")
    assert encoder.encode(np.zeros((2, 3, 224, 224), np.float32)).shape == (2, dim)
    assert encoder.dim == dim
    assert encoder.card["has_map"] is has_map


def test_weights_of_a_fine_tuned_model_may_have_another_head(tmp_path):
    import torch
    import torchvision

    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "w.pth")
    assert load_backbone(choose("resnet18", "w"), str(tmp_path / "w.pth"), folder=tmp_path / "b").dim == 512


def test_other_weights_have_another_fingerprint(tmp_path):
    import torch
    import torchvision

    found = set()
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth")
        found.add(load_backbone(choose("resnet18", "w"), str(tmp_path / "w.pth"), folder=tmp_path / "b").fingerprint)
    assert len(found) == 2


@pytest.mark.parametrize("content", [b"no state dict", b""])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(BackboneError, match=r"w\.pth is not a state dict"):
        load_backbone(choose("resnet18", "w"), str(tmp_path / "w.pth"), folder=tmp_path / "b")


def test_weights_of_another_architecture_are_refused(tmp_path):
    import torch
    import torchvision

    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="does not fit mobilenet_v2"):
        load_backbone(choose("mobilenet_v2", "w"), str(tmp_path / "w.pth"), folder=tmp_path / "b")


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BackboneError, match="safely"):
        load_backbone(choose("resnet18", "w"), str(tmp_path / "w.pth"), folder=tmp_path / "b")
    assert not (tmp_path / "ran").exists()


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(BackboneError, match=r"nothing\.pth does not exist"):
        load_backbone(choose("resnet18", "w"), str(tmp_path / "nothing.pth"), folder=tmp_path / "b")


def test_weights_without_an_architecture_are_refused():
    with pytest.raises(BackboneError, match="`backbone` as well"):
        choose("auto", "w.pth")


def test_an_export_that_differs_from_torch_does_not_stay(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(exporting, "torch_difference", lambda *_: 1e-3)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with pytest.raises(BackboneError, match="differs from torch"):
        exporting.export(network, networks.RECIPES[LITE0], tmp_path / "b" / "x", name="x", weights_hash="0")
    assert list((tmp_path / "b").iterdir()) == []
