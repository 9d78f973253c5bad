"""A torchvision classification dataset by name -> class folders of PNG files, so that the rest is the same."""

import difflib
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.errors import DataError
from lib.storage import display_path

PREFIX = "torchvision:"
SPLIT_VALUES = ("train", "trainval", "val", "valid", "validation", "test")


def write_class_folders(name: str, folder: Path) -> Path:
    """Download a dataset through torchvision and write it as folder/NAME/images/[split/]class/index.png, once.

    Parameters
    ----------
    name : str
        A class of torchvision.datasets, such as "FashionMNIST".
    folder : Path
        Holds the downloads and the written images.

    Returns
    -------
    Path
        The folder of class folders (or of split folders above them).

    Raises
    ------
    DataError
        If there is no such dataset, it cannot be had here, or it is not one of images with one label each.
    """
    images = folder / name / "images"
    if images.is_dir():
        return images
    parts = _open_parts(name, folder / name / "download")
    temporary = folder / name / ".tmp-images"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for split, dataset in parts.items():
            _write_part(name, dataset, temporary / split)
        temporary.rename(images)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return images


def _open_parts(name: str, root: Path) -> dict[str, Any]:
    """Splits of a torchvision dataset by folder name, "" where it has none; downloads what is missing."""
    import torchvision.datasets

    known = [key for key in torchvision.datasets.__all__ if inspect.isclass(getattr(torchvision.datasets, key))]
    if name not in known:
        spelled = {key.lower(): key for key in known}
        near = spelled[difflib.get_close_matches(name.lower(), spelled, 1, cutoff=0)[0]]
        raise DataError(f"torchvision has no dataset {name!r}; did you mean {PREFIX}{near}?")
    factory = getattr(torchvision.datasets, name)
    arguments = inspect.signature(factory).parameters
    options = {"root": str(root)} if "root" in arguments else {}
    if "download" in arguments:
        options["download"] = True
    root.mkdir(parents=True, exist_ok=True)
    try:
        if "train" in arguments:
            return {"train": factory(train=True, **options), "test": factory(train=False, **options)}
        if "split" in arguments:
            return dict(_named_splits(factory, options))
        return {"": factory(**options)}
    except (OSError, RuntimeError, TypeError, ValueError, AssertionError, EOFError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"torchvision's {name} cannot be had here ({reason}); "
            f"it needs a network or its files in {display_path(root)}."
        ) from error


def _named_splits(factory: Any, options: dict) -> Iterator[tuple[str, Any]]:
    """Those of the usual splits that a dataset has; "trainval" trains where there is no "train"."""
    found = set()
    for split in SPLIT_VALUES:
        folder = split.replace("trainval", "train")
        if folder in found:
            continue
        try:
            yield folder, factory(split=split, **options)
            found.add(folder)
        except ValueError as error:
            if "argument split" not in str(error):  # what torchvision says to a split that a dataset does not have
                raise
    if not found:
        raise ValueError(f"none of the splits {', '.join(SPLIT_VALUES)} is known to it")


def _write_part(name: str, dataset: Any, folder: Path) -> None:
    """Write one split as class folders."""
    from PIL import Image

    named = [label[0] if isinstance(label, tuple) else label for label in getattr(dataset, "classes", [])]  # synonyms
    classes = [str(label).replace("/", "-") for label in named]
    for index in range(len(dataset)):
        image, label = dataset[index]
        if not isinstance(image, Image.Image) or not isinstance(label, int | str):
            raise DataError(f"torchvision's {name} is not a set of images with one label each.")
        label = classes[label] if isinstance(label, int) and label < len(classes) else str(label)
        (folder / label).mkdir(parents=True, exist_ok=True)
        image.save(folder / label / f"{index:06d}.png")
