import struct

import numpy as np
import pytest
from PIL import Image

from lib import datasets, sources
from lib.errors import DataError
from lib.torchvision_data import write_class_folders

# Fashion-MNIST's classes 0, 8 and 9 are "T-shirt/top", "Bag" and "Ankle boot".
TRAIN_LABELS, TEST_LABELS = [9, 0, 8, 9, 0, 8, 9, 0, 8], [8, 0, 9]


def pixels_of(split, index):
    """The picture at this place of the made data set: plain grey, another one at every place."""
    return np.full((28, 28), 10 * index + (1 if split == "train" else 2), dtype=np.uint8)


@pytest.fixture
def fashion(tmp_path):
    """Fashion-MNIST as torchvision keeps it after a download, but of 9 + 3 pictures."""
    raw = tmp_path / "FashionMNIST" / "download" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, split, labels in (("train", "train", TRAIN_LABELS), ("t10k", "test", TEST_LABELS)):
        pictures = b"".join(pixels_of(split, i).tobytes() for i in range(len(labels)))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, len(labels), 28, 28) + pictures)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + bytes(labels))
    return tmp_path


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_dataset_becomes_split_folders_of_class_folders_of_png(fashion):
    folder = write_class_folders("FashionMNIST", fashion)
    assert folder == fashion / "FashionMNIST" / "images"
    names = {0: "T-shirt-top", 8: "Bag", 9: "Ankle boot"}
    expected = {
        f"{split}/{names[label]}/{index:06d}.png": (split, index)
        for split, labels in (("train", TRAIN_LABELS), ("test", TEST_LABELS))
        for index, label in enumerate(labels)
    }
    assert written(folder) == sorted(expected)
    for path, (split, index) in expected.items():
        with Image.open(folder / path) as image:
            assert np.array_equal(np.asarray(image), pixels_of(split, index))


def test_a_dataset_by_name_is_read_like_a_folder(fashion, monkeypatch):
    monkeypatch.setattr(sources, "project_path", {"data/torchvision": fashion}.get)
    dataset = datasets.read_dataset(
        "torchvision:FashionMNIST", seed=0, test_fraction=0.2, val_fraction=0, min_class_size=2
    )
    assert dataset.classes == ["Ankle boot", "Bag", "T-shirt-top"]
    assert datasets.class_counts(dataset.manifest).to_numpy().tolist() == [[3, 1]] * 3


def test_a_dataset_is_written_once(fashion, monkeypatch):
    folder = write_class_folders("FashionMNIST", fashion)
    (folder / "train" / "Bag" / "000002.png").unlink()
    monkeypatch.setattr("lib.torchvision_data._open_parts", None)  # calling it would fail
    assert write_class_folders("FashionMNIST", fashion) == folder
    assert len(written(folder)) == 11


def test_an_interrupted_write_leaves_no_half_folder_and_the_next_one_is_whole(fashion, monkeypatch):
    save, saved = Image.Image.save, []

    def interrupt(image, path):
        if len(saved) == 5:
            raise KeyboardInterrupt
        saved.append(path)
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_class_folders("FashionMNIST", fashion)
    assert [path.name for path in (fashion / "FashionMNIST").iterdir()] == ["download"]
    assert len(written(write_class_folders("FashionMNIST", fashion))) == 12


def test_what_a_killed_write_left_behind_is_not_taken_over(fashion):
    stray = fashion / "FashionMNIST" / ".tmp-images" / "train" / "Bag"
    stray.mkdir(parents=True)
    (stray / "999999.png").write_bytes(b"half a file")
    assert len(written(write_class_folders("FashionMNIST", fashion))) == 12
    assert not (fashion / "FashionMNIST" / ".tmp-images").exists()


@pytest.mark.parametrize(
    ("name", "nearest"), [("FashonMNIST", "FashionMNIST"), ("cifar10", "CIFAR10"), ("mnist", "MNIST"), ("SVNH", "SVHN")]
)
def test_an_unknown_name_gets_the_nearest(tmp_path, name, nearest):
    with pytest.raises(DataError, match=rf"no dataset '{name}'; did you mean torchvision:{nearest}\?"):
        write_class_folders(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["MNIST", "DTD", "EuroSAT", "ImageFolder", "ImageNet", "EMNIST"])
def test_a_dataset_that_cannot_be_had_says_what_it_needs(tmp_path, name):
    with pytest.raises(
        DataError, match=rf"^torchvision's {name} cannot .* network or its files in .*{name}/download.$"
    ):
        write_class_folders(name, tmp_path)
    assert [path.name for path in (tmp_path / name).iterdir()] == ["download"]


@pytest.mark.parametrize("size", [0, 3, 17, 1000])
def test_damaged_files_of_a_dataset_are_a_data_error(fashion, size):
    path = fashion / "FashionMNIST" / "download" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="FashionMNIST cannot be had here"):
        write_class_folders("FashionMNIST", fashion)


def test_trainval_trains_where_there_is_no_train(tmp_path):
    base = tmp_path / "OxfordIIITPet" / "download" / "oxford-iiit-pet"
    for folder in ("images", "annotations"):
        (base / folder).mkdir(parents=True)
    for split, number in (("trainval", 1), ("test", 2)):
        lines = [f"Abyssinian_{number} 1 1 1", f"great_pyrenees_{number} 2 2 1"]
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines))
        for line in lines:
            Image.new("RGB", (8, 8)).save(base / "images" / f"{line.split()[0]}.jpg")
    assert written(write_class_folders("OxfordIIITPet", tmp_path)) == [
        "test/Abyssinian/000000.png",
        "test/Great Pyrenees/000001.png",
        "train/Abyssinian/000000.png",
        "train/Great Pyrenees/000001.png",
    ]


def test_a_class_with_synonyms_is_called_by_the_first(tmp_path):
    for split in ("train", "val"):
        folder = tmp_path / "Imagenette" / "download" / "imagenette2" / split / "n01440764"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "a.JPEG")
    images = write_class_folders("Imagenette", tmp_path)
    assert written(images) == ["train/tench/000000.png", "val/tench/000000.png"]


def replace_dataset(monkeypatch, split_of):
    """Put a data set of one picture in the place of DTD; split_of(split) gives its label or raises."""
    import torchvision.datasets

    class DTD:
        def __init__(self, root, split):
            self.label = split_of(split)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return Image.new("RGB", (8, 8)), self.label

    monkeypatch.setattr(torchvision.datasets, "DTD", DTD)


def test_a_damaged_split_is_not_taken_for_one_that_does_not_exist(tmp_path, monkeypatch):
    def split_of(split):
        if split == "train":
            raise ValueError("damaged")
        return "striped"

    replace_dataset(monkeypatch, split_of)
    with pytest.raises(DataError, match=r"DTD cannot be had here \(damaged\)"):
        write_class_folders("DTD", tmp_path)


def test_a_dataset_without_one_label_an_image_is_refused(tmp_path, monkeypatch):
    replace_dataset(monkeypatch, lambda split: {"boxes": []})
    with pytest.raises(DataError, match="DTD is not a set of images with one label each"):
        write_class_folders("DTD", tmp_path)
    assert [path.name for path in (tmp_path / "DTD").iterdir()] == ["download"]
