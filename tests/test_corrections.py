import pandas as pd
import pytest

from lib import tasks
from lib.corrections import FILE, Correction, read_corrections
from lib.datasets import CORRECTION_COLUMNS, read_dataset
from lib.errors import DataError
from lib.sources import listing_hash
from lib.storage import task_dir, write_table

OPTIONS = {"seed": 0, "test_fraction": 0.2, "val_fraction": 0.2, "min_class_size": 2}


@pytest.fixture
def correct(data):
    """Write corrections.csv beside the images."""

    def write(*lines):
        data.mkdir(exist_ok=True)
        (data / FILE).write_text("\n".join(lines), encoding="utf-8")

    return write


def read(data):
    return read_dataset(str(data), **OPTIONS)


def test_without_the_file_nothing_is_corrected(data, fill):
    fill("cat", 4)
    fill("dog", 4)
    assert read_corrections(data) == {}
    assert read(data).corrections.empty


def test_lines_are_read_whatever_the_order_of_columns_and_with_others_besides(data, correct):
    correct("\ufeffAction,p_given,Label,image", "relabel,0.01,dog,./cat/0.png", "", "Drop,,,cat/1.png")
    assert list(read_corrections(data).values()) == [
        Correction("cat/0.png", "relabel", "dog"),
        Correction("cat/1.png", "drop"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("image,label", "a.png,dog"), "lacks the column action"),
        (("image,action", "a.png,delete"), "line 2: action 'delete' is not one of relabel, drop, keep"),
        (("image,action", "a.png,keep", "a.png,relabel"), "line 3: relabel a.png to what"),
        (("image,action", "a.png,keep", "a.png,drop"), "says two things of a.png"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_place(data, correct, lines, message):
    correct(*lines)
    with pytest.raises(DataError, match=message):
        read_corrections(data)


def test_images_are_relabelled_dropped_and_kept(data, fill, correct):
    fill("cat", 6)
    fill("dog", 6)
    correct("image,action,label", "cat/0.png,relabel,dog", "cat/1.png,drop,", "cat/2.png,keep,", "cat/99.png,drop,")
    dataset = read(data)
    label = dict(zip(dataset.manifest["path"], dataset.manifest["label"], strict=True))
    assert label["cat/0.png"] == "dog"
    assert label["cat/2.png"] == "cat"
    assert "cat/1.png" not in label
    refused = dict(zip(dataset.rejected["path"], dataset.rejected["reason"], strict=True))
    assert refused == {"cat/1.png": "dropped by corrections.csv"}
    rows = dataset.corrections.set_index("image")
    assert rows.loc["cat/0.png", ["action", "label", "was", "found"]].tolist() == ["relabel", "dog", "cat", True]
    assert rows["found"].to_dict() == {"cat/0.png": True, "cat/1.png": True, "cat/2.png": True, "cat/99.png": False}


def test_a_misspelt_label_is_refused_and_many_images_make_a_new_class(data, fill, correct):
    fill("cat", 8)
    fill("dog", 6)
    correct("image,action,label", "cat/0.png,relabel,dgo")
    with pytest.raises(DataError, match="1 image the label 'dgo', which is no class"):
        read(data)
    correct("image,action,label", *(f"cat/{number}.png,relabel,lynx" for number in range(4)))
    assert read(data).classes == ["cat", "dog", "lynx"]


def test_a_csv_manifest_is_corrected_by_the_file_beside_it(fill, manifest_csv, data, correct):
    fill("x", 8)
    source = manifest_csv("image,label", *(f"x/{number}.png,{'cat' if number < 4 else 'dog'}" for number in range(8)))
    before = listing_hash(str(source))
    correct("image,action,label", "x/0.png,relabel,dog")
    assert read_dataset(str(source), **OPTIONS).manifest["label"].value_counts().to_dict() == {"dog": 5, "cat": 3}
    assert listing_hash(str(source)) != before


def test_a_change_of_corrections_is_a_change_of_the_data(data, fill, correct):
    fill("cat", 3)
    seen = [listing_hash(str(data)), listing_hash("torchvision:NoSuchThing")]
    correct("image,action", "cat/0.png,drop")
    seen.append(listing_hash(str(data)))
    assert len(set(seen)) == 3


def test_an_image_that_a_manifest_names_twice_is_dropped_twice(fill, manifest_csv, data, correct):
    fill("x", 8)
    lines = [f"x/{number}.png,{'cat' if number < 4 else 'dog'}" for number in range(8)]
    source = manifest_csv("image,label", *lines, lines[0])
    correct("image,action", "x/0.png,drop")
    dataset = read_dataset(str(source), **OPTIONS)
    assert "x/0.png" not in set(dataset.manifest["path"])
    assert dataset.corrections["found"].tolist() == [True]


def test_names_that_look_like_numbers_are_kept_by_their_name():
    table = pd.DataFrame([("001", "keep", "", "x", True), ("002", "drop", "", "x", True)], columns=CORRECTION_COLUMNS)
    write_table(task_dir("t") / tasks.CORRECTIONS_FILE, table)
    assert tasks.kept_images("t") == {"001"}
