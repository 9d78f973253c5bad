"""Images to vectors: this project against what people use, end to end from files and the forward pass alone.

Peers: img2vec-pytorch, embetter, and a plain loop of timm and torch in batches of 32, each as its documentation shows
it. ResNet50 has seeded weights (they cost the same time); EfficientNet-Lite0 its own. Every contender is a process of
its own; they take turns, and ratios are of medians. CPU seconds are of the contender's process alone.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import Contender, machine, matmul_gflops, serve, table, take_turns
from PIL import Image

RESNET50, LITE0 = "resnet50", "efficientnet_lite0"
TIMM = {RESNET50: "resnet50", LITE0: "tf_efficientnet_lite0"}
OURS, OURS_INT8 = "this project", "this project, int8"
PEERS = ("img2vec-pytorch", "embetter", "timm loop")
CASES = {"500x375 JPEG": 64, "12 MP JPEG": 16, "28x28 PNG": 64, "forward only": 64}  # images a run


def write_images(folder: Path) -> None:
    """The images of each case, cut from scikit-learn's two sample photos so that no two are alike."""
    import sklearn.datasets

    photos = [Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    rng = np.random.default_rng(0)
    for name, size, suffix in (("500x375 JPEG", (500, 375), "jpg"), ("12 MP JPEG", (4000, 3000), "jpg"),
                               ("28x28 PNG", (28, 28), "png")):  # fmt: skip
        (folder / name).mkdir(parents=True)
        for number in range(CASES[name]):
            photo = photos[number % 2]
            left, top = rng.integers(0, photo.width // 4), rng.integers(0, photo.height // 4)
            cut = photo.crop((left, top, left + photo.width * 3 // 4, top + photo.height * 3 // 4)).resize(size)
            cut.save(folder / name / f"{number:03d}.{suffix}", **({"quality": 90} if suffix == "jpg" else {}))


def files_of(folder: Path, case: str) -> list[Path]:
    """Files of a case; the forward pass has those of the small photos, decoded beforehand."""
    return sorted((folder / (case if case != "forward only" else "500x375 JPEG")).iterdir())


def seeded_weights(cache: Path) -> None:
    """ResNet50's weights drawn with a seed, under the names torchvision looks for."""
    import torch
    import torchvision

    torch.manual_seed(0)
    state = torchvision.models.resnet50().state_dict()
    (cache / "hub" / "checkpoints").mkdir(parents=True)
    for enum in torchvision.models.ResNet50_Weights:
        torch.save(state, cache / "hub" / "checkpoints" / Path(enum.url).name)


def timm_network(name: str) -> object:
    """A timm network without its classifier; weights do not matter for speed."""
    import timm

    return timm.create_model(TIMM[name], pretrained=False, num_classes=0).eval()


def ours(name: str, case: str, folder: Path, *, int8: bool) -> Callable[[], object]:
    """This project: `embed` into an empty cache, or the encoder on batches of 32."""
    from lib.backbones import Choice, load_backbone, quantize
    from lib.embeddings import embed
    from lib.progress import quiet
    from lib.storage import sha256_bytes

    files = files_of(folder, case)
    encoder = load_backbone(Choice(name, "the benchmark asked for it"))
    if int8:
        images = files_of(folder, "500x375 JPEG")
        pixels = np.stack([encoder.preprocessing.pixels(file.read_bytes()) for file in images])
        encoder = quantize(encoder, pixels, [str(number) for number in range(len(pixels))])
    if case == "forward only":
        pixels = np.stack([encoder.preprocessing.pixels(file.read_bytes()) for file in files])
        return lambda: [encoder.encode(pixels[start : start + 32]) for start in range(0, len(pixels), 32)]
    hashes = [sha256_bytes(file.read_bytes()) for file in files]

    def run() -> None:
        with tempfile.TemporaryDirectory() as cache:
            embed(files[0].parent, [file.name for file in files], hashes, encoder, folder=Path(cache), progress=quiet)

    return run


def img2vec(name: str, case: str, folder: Path) -> Callable[[], object]:
    """img2vec-pytorch, an image at a time as its README shows; Lite0 is put in, for it is not among its networks."""
    import torch
    from img2vec_pytorch import Img2Vec

    if name == RESNET50:
        embedder = Img2Vec(cuda=False, model="resnet50", layer_output_size=2048)
    else:
        embedder = Img2Vec.__new__(Img2Vec)
        original = Img2Vec._get_model_and_layer
        network = timm_network(name)
        Img2Vec._get_model_and_layer = lambda self, model, layer: (network, network.bn2)
        embedder.__init__(cuda=False, model="efficientnet_lite0", layer_output_size=1280)
        Img2Vec._get_model_and_layer = original
    files = files_of(folder, case)
    if case == "forward only":
        images = [torch.randn(1, 3, 224, 224) for _ in files]

        def forward() -> None:
            with torch.no_grad():
                for image in images:
                    embedder.model(image)

        return forward
    return lambda: [embedder.get_vec(Image.open(file).convert("RGB")) for file in files]


def embetter(name: str, case: str, folder: Path) -> Callable[[], object]:
    """embetter's ImageLoader and TimmEncoder in a scikit-learn pipeline."""
    import timm
    import torch
    from embetter.vision import ImageLoader, TimmEncoder
    from sklearn.pipeline import make_pipeline

    create = timm.create_model  # the encoder asks for pretrained weights, which speed does not need
    timm.create_model = lambda *arguments, **options: create(*arguments, **options | {"pretrained": False})
    encoder = TimmEncoder(TIMM[name])
    files = [str(file) for file in files_of(folder, case)]
    if case == "forward only":
        images = [torch.randn(1, 3, 224, 224) for _ in files]
        return lambda: [encoder.model(image).squeeze(0).detach().numpy() for image in images]
    pipeline = make_pipeline(ImageLoader(convert="RGB"), encoder)
    return lambda: pipeline.fit_transform(files)


def timm_loop(name: str, case: str, folder: Path) -> Callable[[], object]:
    """A plain loop: timm's own transform, batches of 32, inference mode."""
    import timm.data
    import torch

    network = timm_network(name)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    files = files_of(folder, case)
    pixels = torch.randn(len(files), 3, 224, 224)

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(files), 32):
                batch = pixels[start : start + 32]
                if case != "forward only":
                    images = (Image.open(file).convert("RGB") for file in files[start : start + 32])
                    batch = torch.stack([transform(image) for image in images])
                network(batch).numpy()

    return run


def prepare(contender: str, name: str, case: str, folder: str) -> Callable[[], object]:
    """What a contender runs."""
    if contender.startswith(OURS):
        return ours(name, case, Path(folder), int8=contender == OURS_INT8)
    return {"img2vec-pytorch": img2vec, "embetter": embetter, "timm loop": timm_loop}[contender](
        name, case, Path(folder)
    )


def giga_operations(name: str) -> float:
    """10^9 floating-point operations of one forward pass, counted by torch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        timm_network(name)(torch.zeros(1, 3, 224, 224))
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Run every case of every network and print one table each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=[RESNET50, LITE0], choices=[RESNET50, LITE0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        serve(lambda: prepare(*options.contender))
        return
    from lib.inference import n_cores

    folder = Path(tempfile.mkdtemp())
    try:
        write_images(folder)
        seeded_weights(folder / "torch")
        environment = {"ARTIFACTS_DIR": str(folder / "artifacts"), "TORCH_HOME": str(folder / "torch")}
        print(f"{machine()}; {options.rounds} rounds.")
        for name in options.networks:
            cost = giga_operations(name)
            for case in options.cases:
                limit = matmul_gflops(n_cores()) / cost
                contenders = [
                    Contender(who, __file__, who, name, case, str(folder), environment=environment)
                    for who in (OURS, OURS_INT8, *PEERS)
                ]
                take_turns(contenders, options.rounds)
                limit = max(limit, matmul_gflops(n_cores()) / cost)
                show(name, case, contenders, limit)
    finally:
        shutil.rmtree(folder)


def show(name: str, case: str, contenders: list[Contender], limit: float) -> None:
    """One table: images a second, share of the limit, CPU seconds, memory, and how many times img2vec's speed."""
    base = next(contender for contender in contenders if contender.name == "img2vec-pytorch").median("wall")
    rows = []
    for contender in contenders:
        contender.close()
        if contender.error:
            rows.append((contender.name, contender.error, "", "", "", ""))
            continue
        rate = CASES[case] / contender.median("wall")
        share = f"{100 * rate / limit:.0f} %"
        cpu = 1000 * contender.median("cpu") / CASES[case]
        rows.append((contender.name, rate, base / contender.median("wall"), share, cpu, contender.median("peak")))
    print(f"\n{name}, {case} (fp32 limit by matrix product: {limit:.1f} images/s)\n")
    columns = ["", "images/s", "times img2vec", "of the fp32 limit", "CPU ms an image", "peak MB"]
    print(table(columns, rows), flush=True)


if __name__ == "__main__":
    sys.exit(main())
