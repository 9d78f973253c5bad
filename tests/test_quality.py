import random
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import SAMPLE
from PIL import Image, ImageEnhance

from lib import quality
from lib.appearance import Appearance, appearances
from lib.datasets import read_dataset
from lib.embeddings import embed
from lib.neighbours import K, Neighbours, find_neighbours
from lib.progress import quiet
from lib.quality import DUPLICATE_COLUMNS, PAIR_COLUMNS, exact_duplicates
from lib.training import label_opinions


def manifest(*rows):
    return pd.DataFrame(rows, columns=["sha256", "path", "label", "split"]).assign(width=28, height=28)


def plain(n, label="x"):
    return manifest(*((f"{i:03}", f"{i}.png", label, "train") for i in range(n)))


def measures(n, **columns):
    usual = {"brightness": 0.5, "darkest": 0.1, "brightest": 0.9, "contrast": 0.2, "sharpness": 0.4}
    return pd.DataFrame(usual | columns, index=range(n))


def test_copies_lie_beside_each_other_and_single_images_are_left_out():
    table = exact_duplicates(
        manifest(("bb", "z.png", "x", "train"), ("aa", "only.png", "x", "train"), ("bb", "a.png", "x", "train"))
    )
    assert list(table.columns) == DUPLICATE_COLUMNS
    assert table["path"].tolist() == ["a.png", "z.png"]
    assert table["copies"].tolist() == [2, 2]
    assert not table["across_splits"].any()
    assert not table["across_classes"].any()


def test_a_leak_and_a_label_conflict_are_told_apart():
    table = exact_duplicates(
        manifest(
            ("leak", "1", "x", "train"),
            ("leak", "2", "x", "test"),
            ("conflict", "3", "x", "val"),
            ("conflict", "4", "y", "val"),
            ("conflict", "5", "y", "val"),
        )
    ).set_index("path")
    assert table["across_splits"].to_dict() == {"1": True, "2": True, "3": False, "4": False, "5": False}
    assert table["across_classes"].to_dict() == {"1": False, "2": False, "3": True, "4": True, "5": True}
    assert table["copies"].to_dict() == {"1": 2, "2": 2, "3": 3, "4": 3, "5": 3}


def test_without_duplicates_the_table_is_empty_and_has_its_columns():
    for rows in ([], [("aa", "1", "x", "train"), ("bb", "2", "x", "train")]):
        table = exact_duplicates(manifest(*rows))
        assert table.empty
        assert list(table.columns) == DUPLICATE_COLUMNS
        assert not table["across_splits"].any()


def test_the_manifest_is_left_as_it_was():
    rows = manifest(("aa", "1", "x", "train"), ("aa", "2", "x", "train"))
    exact_duplicates(rows)
    assert "copies" not in rows


def pairs(rows, vectors, greys):
    hashes = np.sign(greys @ np.random.default_rng(1).normal(size=(greys.shape[1], 63)))
    return quality.near_duplicates(rows, find_neighbours(vectors), find_neighbours(greys), hashes)


@pytest.fixture
def unlike():
    """Fifteen images of which no two are alike: vectors, and grey copies of length 1."""
    rng = np.random.default_rng(0)
    greys = rng.normal(size=(15, 256))
    return rng.normal(size=(15, 40)), greys / np.linalg.norm(greys, axis=1, keepdims=True)


def test_images_that_are_unlike_make_no_pair(unlike):
    table = pairs(plain(15), *unlike)
    assert table.empty
    assert list(table.columns) == PAIR_COLUMNS


def test_one_picture_in_two_files_is_told_by_its_grey_copy(unlike):
    vectors, greys = unlike
    greys[4] = greys[9]
    rows = plain(15)
    rows.loc[9, ["label", "split"]] = ["y", "test"]
    (pair,) = pairs(rows, vectors, greys).to_dict("records")
    assert (pair["path"], pair["other_path"], pair["evidence"]) == ("4.png", "9.png", "same picture")
    assert pair["distance"] == pytest.approx(0, abs=1e-6)
    assert pair["across_splits"]
    assert pair["across_classes"]


def test_vectors_far_closer_than_their_surroundings_are_told(unlike):
    vectors, greys = unlike
    vectors[3] = vectors[12] + 0.1 * np.random.default_rng(2).normal(size=40)
    (pair,) = pairs(plain(15), vectors, greys).to_dict("records")
    assert (pair["path"], pair["other_path"], pair["evidence"]) == ("3.png", "12.png", "close vectors")
    assert pair["distance"] < 0.05


def test_the_same_file_twice_is_no_near_duplicate_and_blank_images_are_alike_to_all(unlike):
    vectors, greys = unlike
    vectors[1], greys[1] = vectors[0], greys[0]
    rows = plain(15)
    rows.loc[1, "sha256"] = rows.loc[0, "sha256"]
    vectors[3], greys[[2, 3]] = vectors[2], 0
    assert pairs(rows, vectors, greys).empty


def test_a_doubtful_label_comes_with_what_it_should_be():
    proba = np.array([[0.9, 0.1], [0.05, 0.95], [0.02, 0.98], [0.2, 0.8], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 1, 0])
    table = quality.label_suspects(plain(5, "a"), labels, proba, ["a", "b"])
    # Image 4 is more likely b, but not unlikely a. Class b's own image has 0.8, which 0.95 and 0.98 reach.
    assert table["image"].tolist() == ["2.png", "1.png"]
    assert (table["action"] == "relabel").all()
    assert table["label"].tolist() == ["b", "b"]
    assert table["p_given"].tolist() == [0.02, 0.05]
    assert table["confident"].all()


def test_an_image_far_from_all_others_is_an_outlier():
    near = Neighbours(np.zeros((21, 1), dtype=int), np.r_[np.linspace(0.2, 0.3, 20), 0.9][:, None])
    (row,) = quality.outliers(plain(21), near).to_dict("records")
    assert (row["image"], row["fault"], row["value"]) == ("20.png", "outlier", 0.9)
    assert row["usual"] == pytest.approx(0.2526, abs=1e-3)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("contrast", 0.0, "blank"),
        ("brightest", 0.1, "dark"),
        ("darkest", 0.9, "bright"),
        ("sharpness", 0.05, "blurred"),
    ],
)
def test_a_fault_is_named_with_its_value_beside_what_is_usual(column, value, fault):
    table = measures(9)
    usual = table.loc[0, column]
    table.loc[5, column] = value
    (row,) = quality.image_faults(plain(9), table).to_dict("records")
    assert (row["image"], row["fault"], row["value"], row["usual"]) == ("5.png", fault, value, usual)


@pytest.mark.parametrize(("width", "height", "faults"), [(300, 28, ["odd shape"]), (5, 5, ["odd size"]), (40, 28, [])])
def test_odd_shapes_and_sizes_are_told_from_usual_ones(width, height, faults):
    rows = plain(9)
    rows.loc[2, ["width", "height"]] = [width, height]
    assert quality.image_faults(rows, measures(9))["fault"].tolist() == faults


def test_a_data_set_without_faults_has_none():
    table = quality.image_faults(plain(9), measures(9))
    assert table.empty
    assert list(table.columns) == quality.FAULT_COLUMNS


def damage(image, kind):
    """One picture as another file."""
    if kind == "encoded again":
        return image, {"quality": 40}
    if kind == "smaller":
        return image.resize((20, 20)), {"quality": 90}
    return ImageEnhance.Brightness(image).enhance(1.3 if kind == "brighter" else 0.7), {"quality": 90}


@pytest.fixture(scope="module")
def planted(tmp_path_factory, lite0, shared_folder):
    """The sample with 20 near duplicates in it and 40 wrong labels: manifest, vectors, looks, what was planted."""
    folder = tmp_path_factory.mktemp("planted") / "data"
    shutil.copytree(SAMPLE, folder)
    rng = random.Random(0)
    paths = sorted(folder.glob("*/*.png"))
    copies = set()
    for number, path in enumerate(rng.sample(paths, 20)):
        kind = ("encoded again", "smaller", "brighter", "darker")[number % 4]
        image, options = damage(Image.open(path).convert("RGB"), kind)
        copy = path.with_name(f"copy-{path.stem}.jpg")
        image.save(copy, **options)
        copies.add(tuple(sorted(str(p.relative_to(folder)) for p in (path, copy))))
    dataset = read_dataset(str(folder), seed=0, test_fraction=0.2, val_fraction=0.1, min_class_size=5)
    cache = shared_folder / "planted"
    chosen = (dataset.root, dataset.manifest["path"], dataset.manifest["sha256"])
    vectors = embed(*chosen, lite0, folder=cache / "lite0", progress=quiet).vectors
    looks = appearances(embed(*chosen, Appearance(), folder=cache / "looks", progress=quiet).vectors)
    true = dataset.manifest["label"].map(dataset.classes.index).to_numpy()
    labels = true.copy()
    wrong = np.random.default_rng(0).choice(len(true), 40, replace=False)
    labels[wrong] = (true[wrong] + np.random.default_rng(1).integers(1, len(dataset.classes), 40)) % len(
        dataset.classes
    )
    return dataset, vectors, looks, copies, labels, true


def test_planted_near_duplicates_are_found_and_little_else(planted):
    dataset, vectors, looks, copies, _, _ = planted
    near = find_neighbours(vectors, K)
    table = quality.near_duplicates(dataset.manifest, near, find_neighbours(looks.greys), looks.hashes)
    found = {tuple(sorted(pair)) for pair in table[["path", "other_path"]].itertuples(index=False, name=None)}
    recall, precision = len(found & copies) / len(copies), len(found & copies) / len(found)
    assert recall >= 0.95
    assert precision >= 0.85
    assert table["across_splits"].any()  # some copies were drawn into another split than their originals


def test_planted_wrong_labels_lead_the_suspects_with_their_true_class(planted):
    dataset, vectors, _, _, labels, true = planted
    unit = dataset.manifest["unit"].to_numpy()
    proba = label_opinions(vectors, labels, unit, find_neighbours(vectors), n_classes=len(dataset.classes), seed=0)
    rows = dataset.manifest.assign(label=np.array(dataset.classes)[labels])
    table = quality.label_suspects(rows, labels, proba, dataset.classes)
    truth = dict(zip(dataset.manifest["path"], np.array(dataset.classes)[true], strict=True))
    wrong = np.array([truth[row.image] != row.given for row in table.itertuples()])
    right_suggestion = np.array([truth[row.image] == row.label for row in table.itertuples()])
    assert wrong.sum() / 40 >= 0.9  # recall of the whole list
    assert wrong[:40].mean() >= 0.7  # precision where most of it lies
    assert wrong[:80].sum() / 40 >= 0.85
    assert right_suggestion[wrong].mean() >= 0.85


def test_natural_images_of_the_sample_have_no_fault(planted):
    dataset, _, looks, *_ = planted
    original = ~dataset.manifest["path"].str.contains("copy-").to_numpy()
    table = quality.image_faults(dataset.manifest, looks.measures)
    assert not table["image"].isin(dataset.manifest["path"][original]).any()


def test_the_verdict_says_what_to_do_in_which_order():
    rows = [("1", "a", "train", "2", "b", "test", 0.0, "same picture", True, True)]
    found = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    suspects, faults = pd.DataFrame({"image": ["3", "4"]}), pd.DataFrame({"image": ["4"]})
    first, *then = quality.verdict(10, found, suspects, faults)
    assert first.startswith("2 of 10 images")
    assert then[0].startswith("First: 1 pairs lie between training and test")
    assert [sentence.split(" ")[0] for sentence in then[1:]] == ["1", "Look", "Drop"]
    none = pd.DataFrame({"image": []})
    assert quality.verdict(10, found[:0], none, none)[-1].startswith("Nothing here speaks against")
