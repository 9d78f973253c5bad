from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import backbones, precision
from lib.backbones import LITE0, Choice, load_backbone
from lib.datasets import read_dataset
from lib.embeddings import cache_dir, cached_hashes, embed
from lib.errors import ArtifactError, BackboneError, ParameterError
from lib.precision import Check, choose_encoder
from lib.progress import quiet
from lib.storage import PROJECT_ROOT, read_json

GOOD = {
    "n": 400,
    "cosine_mean": 0.997,
    "cosine_min": 0.99,
    "accuracy_fp32": 0.86,
    "accuracy_int8": 0.855,
    "difference": -0.005,
    "low": -0.015,
    "high": 0.005,
    "standard_error": 0.0051,
    "speedup": 2.0,
}


def test_int8_may_lose_one_standard_error_and_no_more():
    assert Check(**GOOD).passed
    assert "-0.50 points" in Check(**GOOD).verdict
    assert "a loss of no more than one standard error (0.51 points)" in Check(**GOOD).verdict
    worse = Check(**GOOD | {"standard_error": 0.0049})
    assert not worse.passed
    assert "a loss of more than one standard error" in worse.verdict
    assert worse.table["value"].iloc[-1] == "int8 loses too much: fp32 is kept"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"precision": "int4"}, "no precision 'int4'; the choices are auto, fp32, int8, fp16"),
        ({"runtime": "tensorrt"}, "no runtime 'tensorrt'; the choices are auto, onnxruntime, torch"),
        ({"precision": "int8", "runtime": "torch"}, "precision=int8 runs by onnxruntime only"),
        ({"precision": "fp16", "runtime": "onnxruntime"}, "precision=fp16 runs by torch only"),
        ({"precision": "fp16"}, "needs a GPU"),
    ],
)
def test_what_does_not_exist_or_go_together_names_the_choices(lite0, names, said, monkeypatch):
    monkeypatch.setattr(backbones, "gpu_device", lambda: "")
    with pytest.raises(ParameterError, match=said):
        choose_encoder(lite0, None, **names)


def test_images_come_class_by_class_in_the_order_of_their_content():
    train = pd.DataFrame({"sha256": list("edcba"), "label": ["x", "x", "x", "y", "y"]})
    assert precision.in_turn(train, 4)["sha256"].tolist() == ["a", "c", "b", "d"]
    assert precision.in_turn(train, 3, ascending=False)["sha256"].tolist() == ["e", "b", "d"]


@pytest.fixture(scope="module")
def sample():
    """The sample's images: the check's own data set."""
    return read_dataset(
        str(PROJECT_ROOT / "data/sample"), seed=0, test_fraction=0.6, val_fraction=0.1, min_class_size=5
    )


@pytest.fixture
def own_lite0(lite0, tmp_path):
    """Lite0 in a folder of this test, so that no other finds its int8 twin."""
    (tmp_path / "backbones").mkdir()
    (tmp_path / "backbones" / lite0.folder.name).symlink_to(lite0.folder)
    return load_backbone(Choice(LITE0, ""), folder=tmp_path / "backbones")


def test_int8_is_calibrated_on_training_images_checked_and_found_again(own_lite0, sample, monkeypatch):
    monkeypatch.setattr(Check, "passed", True)  # which it is, on so few images, the next test does not leave to chance
    decision = choose_encoder(own_lite0, sample, precision="int8", progress=quiet)
    twin, check = decision.encoder, decision.check
    train = set(sample.manifest.loc[sample.manifest["split"] == "train", "sha256"])
    assert set(twin.card["calibration"]) <= train
    assert len(twin.card["calibration"]) == 256
    assert (decision.precision, twin.card["precision"], twin.card["base"]) == ("int8", "int8", own_lite0.fingerprint)
    assert twin.fingerprint.startswith("efficientnet_lite0-int8-")
    assert check.n == len(train)
    assert check.cosine_mean > 0.99
    assert check.cosine_min > 0.95
    assert abs(check.difference) < 0.05
    assert check.low <= check.difference <= check.high
    assert check.accuracy_fp32 > 0.7
    assert read_json(twin.folder / "backbone.json")["check"]["n"] == check.n
    assert cached_hashes(cache_dir(twin.fingerprint)) == train

    compare = precision._compare
    monkeypatch.setattr(precision, "_compare", lambda *_, **__: pytest.fail("compared again"))
    again = choose_encoder(own_lite0, sample, precision="int8", progress=quiet)
    assert again == decision
    compared = []
    monkeypatch.setattr(precision, "_compare", lambda *a, **k: compared.append(1) or compare(*a, **k))
    labels = sample.manifest["label"].replace({"Bag": "Boot", "Ankle boot": "Boot"})
    relabelled = replace(sample, manifest=sample.manifest.assign(label=labels))
    other = choose_encoder(own_lite0, relabelled, precision="int8", progress=quiet)
    assert compared == [1]  # a verdict holds for the images and labels it was made on
    assert other.check.low != check.low
    # The served session of the twin still gives the exact feature map.
    pixels = twin.preprocessing.pixels((sample.root / sample.manifest["path"].iloc[0]).read_bytes())[None]
    np.testing.assert_allclose(twin.feature_map(pixels).mean((2, 3)), twin.encode(pixels), atol=2e-2)

    grown = sample.manifest.assign(split="train")
    assert backbones.find_quantized(own_lite0, set(grown["sha256"])).folder == twin.folder
    other_split = train - {twin.card["calibration"][0]}
    assert backbones.find_quantized(own_lite0, other_split) is None


def stored(own_lite0, sample, **changed):
    """An int8 twin with a comparison on its card that was made before."""
    train = sample.manifest[sample.manifest["split"] == "train"].drop_duplicates("sha256")
    twin = backbones.find_quantized(own_lite0, set(train["sha256"]))
    twin = twin or precision._calibrated(own_lite0, sample.root, train.head(40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_compare", lambda *_, **__: Check(**GOOD | changed))
        twin.card.pop("check_key", None)
        precision._check(own_lite0, twin, sample.root, train, seed=0, progress=quiet)


def test_int8_that_loses_too_much_keeps_fp32_and_says_so(own_lite0, sample):
    stored(own_lite0, sample, difference=-0.03)
    decision = choose_encoder(own_lite0, sample, precision="int8", progress=quiet)
    assert decision.encoder is own_lite0
    assert decision.precision == "fp32"
    assert decision.reason.startswith("fp32 is kept. On 400 training images int8 is -3.00 points from fp32")
    assert not decision.check.passed


def test_auto_takes_int8_only_for_many_images_and_where_it_is_faster(own_lite0, sample, monkeypatch):
    monkeypatch.setattr(backbones, "gpu_device", lambda: "")
    few = choose_encoder(own_lite0, sample, precision="auto", progress=quiet)
    assert (few.precision, few.check) == ("fp32", None)
    assert "only 1,500 images are left to compute" in few.reason
    monkeypatch.setattr(precision, "AUTO_IMAGES", 1000)
    stored(own_lite0, sample, speedup=1.1)
    slow = choose_encoder(own_lite0, sample, precision="auto", progress=quiet)
    assert slow.precision == "fp32"
    assert "at 1.1 times the speed, less than 1.3 times" in slow.reason
    stored(own_lite0, sample)
    fast = choose_encoder(own_lite0, sample, precision="auto", progress=quiet)
    assert fast.precision == "int8"
    assert fast.reason.startswith("auto: int8.")
    # The check has cached some vectors in fp32, so fewer are left: the decision stays.
    monkeypatch.setattr(precision, "AUTO_IMAGES", 1500)
    assert choose_encoder(own_lite0, sample, precision="auto", progress=quiet) == fast


def test_a_processor_that_computes_int8_otherwise_gets_fp32_by_auto_and_a_sentence_when_asked(
    own_lite0, sample, monkeypatch
):
    monkeypatch.setattr(backbones, "gpu_device", lambda: "")
    stored(own_lite0, sample)
    file = next(own_lite0.folder.parent.glob("*-int8-*/backbone.json"))
    card = read_json(file)
    precision.write_json(file, card | {"probe": card["probe"][::-1]})
    auto = choose_encoder(own_lite0, sample, precision="auto", progress=quiet)
    assert auto.precision == "fp32"
    assert "This processor computes the int8 network" in auto.reason
    with pytest.raises(ArtifactError, match="computes the int8 network"):
        choose_encoder(own_lite0, sample, precision="int8", progress=quiet)


@pytest.fixture(scope="module")
def resnet18_weights(tmp_path_factory):
    import torch
    import torchvision

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), path)
    return str(path)


def test_the_gpu_path_on_a_cpu_gives_the_vectors_that_serve(resnet18_weights, sample, tmp_path, monkeypatch):
    export = load_backbone(Choice("resnet18", ""), resnet18_weights, folder=tmp_path / "backbones")
    decision = choose_encoder(export, sample, weights=resnet18_weights, runtime="torch", progress=quiet)
    encoder = decision.encoder
    assert (decision.precision, decision.runtime, encoder.device) == ("fp32", "torch", "cpu")
    assert "differ from those of the export that serves by" in decision.reason
    assert encoder.fingerprint == export.fingerprint + "-torch-fp32"
    assert decision.tolerance == 1e-3
    paths, hashes = sample.manifest["path"].head(8), sample.manifest["sha256"].head(8)
    result = embed(sample.root, paths, hashes, encoder, folder=tmp_path / "a", progress=quiet)
    served = embed(sample.root, paths, hashes, export, folder=tmp_path / "b", progress=quiet)
    np.testing.assert_allclose(result.vectors, served.vectors, atol=1e-4 * np.abs(served.vectors).max())


def test_half_precision_has_its_own_cache_and_agrees_with_what_serves(resnet18_weights, tmp_path):
    import torch

    export = load_backbone(Choice("resnet18", ""), resnet18_weights, folder=tmp_path / "backbones")
    encoder = backbones.TorchEncoder(export, resnet18_weights, "cpu", "fp16")
    assert encoder.fingerprint == export.fingerprint + "-torch-fp16"
    assert encoder.folder == export.folder
    weight = next(encoder.network.parameters())
    assert weight.dtype == torch.float16
    assert weight.is_contiguous(memory_format=torch.channels_last)
    pixels = np.random.default_rng(0).standard_normal((4, 3, 224, 224)).astype(np.float32)
    assert encoder.encode(pixels).dtype == np.float32
    assert 0 < encoder.check(pixels) < 2e-2


def test_torch_that_differs_from_what_serves_is_refused(resnet18_weights, tmp_path):
    import torch

    export = load_backbone(Choice("resnet18", ""), resnet18_weights, folder=tmp_path / "backbones")
    encoder = backbones.TorchEncoder(export, resnet18_weights, "cpu")
    with torch.no_grad():
        next(encoder.network.parameters()).mul_(1.1)
    with pytest.raises(BackboneError, match=r"differs from the export that serves.*-p runtime onnxruntime"):
        encoder.check(np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32))


def test_an_encoder_for_another_process_carries_nothing_opened(lite0, resnet18_weights, tmp_path):
    import pickle

    lite0.encode(np.zeros((1, 3, 224, 224), np.float32))
    sent = pickle.loads(pickle.dumps(lite0))
    assert sent == lite0
    assert sent._session is None
    by_torch = backbones.TorchEncoder(lite0, "", "cuda")
    assert pickle.loads(pickle.dumps(by_torch)).fingerprint == lite0.fingerprint + "-torch-fp32"
    assert by_torch.uses_gpu
