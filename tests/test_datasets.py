import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import datasets, sources
from lib.datasets import class_counts, empty_classes, read_dataset
from lib.errors import DataError
from lib.sources import listing_hash
from lib.storage import sha256_bytes, sha256_file

OPTIONS = {"seed": 0, "test_fraction": 0.2, "val_fraction": 0.2, "min_class_size": 2}


def read(source, **options):
    return read_dataset(str(source), **(OPTIONS | options))


def files_below(folder):
    """Number of all that is not a folder below a folder, without following links."""
    return sum(len(files) for _, _, files in os.walk(folder))


def reasons(dataset):
    return dict(zip(dataset.rejected["path"], dataset.rejected["reason"], strict=True))


def labels(dataset):
    return dict(zip(dataset.manifest["path"], dataset.manifest["label"], strict=True))


def splits(dataset):
    return dict(zip(dataset.manifest["path"], dataset.manifest["split"], strict=True))


def by_content(dataset):
    return dict(zip(dataset.manifest["sha256"], dataset.manifest["split"], strict=True))


def test_each_folder_is_a_class_and_each_image_a_row(data, fill):
    fill("dog", 6)
    fill("cat", 5)
    dataset = read(data)
    assert dataset.classes == ["cat", "dog"]
    assert list(labels(dataset).values()) == ["cat"] * 5 + ["dog"] * 6
    assert list(dataset.manifest.columns) == datasets.MANIFEST_COLUMNS
    row = dataset.manifest.iloc[0]
    path = data / "cat" / "0.png"
    assert (row["path"], row["sha256"], row["bytes"]) == ("cat/0.png", sha256_file(path), path.stat().st_size)
    assert (row["format"], row["width"], row["height"], row["group"]) == ("PNG", 8, 6, "")
    assert row["unit"] == f"1 {row['sha256']}"
    assert len(dataset.rejected) == 0
    assert class_counts(dataset.manifest).to_numpy().sum() == 11


def test_folders_below_a_class_belong_to_it(data, fill):
    fill("cat/at home/asleep", 3)
    fill("dog", 3)
    assert labels(read(data))["cat/at home/asleep/0.png"] == "cat"


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "valid", "Testing"), ("TRAIN", "Validation", "Test")],
)
def test_split_folders_above_the_classes_are_respected(data, fill, train, val, test):
    for label in ("cat", "dog"):
        fill(f"{train}/{label}", 4)
        fill(f"{val}/{label}", 2)
        fill(f"{test}/{label}", 3)
    dataset = read(data)
    assert dataset.classes == ["cat", "dog"]
    counts = class_counts(dataset.manifest)
    assert counts.columns.tolist() == ["train", "val", "test"]
    assert counts.to_numpy().tolist() == [[4, 2, 3], [4, 2, 3]]
    assert splits(dataset)[f"{val}/dog/1.png"] == "val"


def test_a_missing_split_folder_is_drawn_from_train(data, fill):
    for label in ("cat", "dog"):
        fill(f"train/{label}", 30)
        fill(f"test/{label}", 3)
    before = splits(read(data))
    assert {split for path, split in before.items() if path.startswith("test/")} == {"test"}
    assert {split for path, split in before.items() if path.startswith("train/")} == {"train", "val"}


def test_a_class_called_train_beside_others_is_a_class(data, fill):
    for label in ("bus", "train", "test"):
        fill(label, 4)
    assert read(data).classes == ["bus", "test", "train"]


def test_the_extension_does_not_matter(data, fill):
    for label in ("cat", "dog"):
        for path, name in zip(fill(label, 3), ("a.jpg", "b", "c.PNG"), strict=True):
            path.rename(path.with_name(name))
    dataset = read(data)
    assert len(dataset.manifest) == 6
    assert set(dataset.manifest["format"]) == {"PNG"}


def test_every_file_is_used_or_listed_with_its_reason(data, fill, save_image, tmp_path):
    fill("cat", 4)
    fill("dog", 4)
    fill("cat/x.jpg", 1)  # a folder called like a file
    fill("cat/.ipynb_checkpoints", 1)
    fill("__MACOSX/cat", 1)
    fill(".git/cat", 1)
    save_image("data/direct.png", seed=77)
    half = save_image("data/dog/half.png", seed=78)
    half.write_bytes(half.read_bytes()[:20])
    Image.new("RGB", (12_001, 1)).save(data / "dog" / "wide.png")
    for name, content in {
        ".DS_Store": b"\0\0\0\1Bud1",
        "cat/.DS_Store": b"\0\0\0\1Bud1",
        "cat/Thumbs.db": b"\xd0\xcf\x11\xe0",
        "cat/._0.png": b"\0\5\x16\7",
        "dog/empty.png": b"",
        "dog/notes.txt": b"good dog",
    }.items():
        (data / name).write_bytes(content)
    (data / "dog" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(data / "dog" / "pipe.png")
    dataset = read(data)
    assert len(dataset.manifest) + len(dataset.rejected) == files_below(data)
    assert len(dataset.manifest) == 9
    found = reasons(dataset)
    assert found.pop("dog/half.png").startswith("the header is broken")
    assert found.pop("dog/wide.png").startswith("12001 x 1 pixels, more than")
    hidden, unknown = "a hidden or system file", "not an image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF)"
    assert found == {
        ".DS_Store": hidden,
        ".git/cat/0.png": hidden,
        "__MACOSX/cat/0.png": hidden,
        "cat/.DS_Store": hidden,
        "cat/._0.png": hidden,
        "cat/.ipynb_checkpoints/0.png": hidden,
        "cat/Thumbs.db": unknown,
        "direct.png": "not inside a class folder",
        "dog/dangling.png": "a dangling link",
        "dog/empty.png": "the file is empty (0 bytes)",
        "dog/notes.txt": unknown,
        "dog/pipe.png": "not a file",
    }


def test_a_file_of_too_many_bytes_is_refused_without_being_read(data, fill):
    fill("cat", 3)
    fill("dog", 3)
    with (data / "dog" / "huge.png").open("wb") as file:
        file.truncate(100_000_001)  # a hole; takes no space
    assert reasons(read(data)) == {"dog/huge.png": "100,000,001 bytes, more than the 100,000,000 allowed"}


def test_an_image_without_read_permission_is_listed(data, fill, monkeypatch):
    fill("cat", 3)
    locked = fill("dog", 3)[0]
    read_bytes = Path.read_bytes

    def deny(path):
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", deny)  # chmod does not stop root
    assert reasons(read(data)) == {"dog/0.png": "cannot be read (Permission denied)"}


ODD_NAMES = [
    'it\'s "quoted"',
    "two\nlines",
    "<b>bold<",
    "鳥とり",
    "naïve",
    "a,b;c",
    "=1+1",
    "NA",
    "-x",
    "%s{0}\\n",
    " ",
]


def test_odd_names_of_classes_and_files_are_kept_as_they_are(data, fill):
    for name in ODD_NAMES:
        for path in fill(name, 2):
            path.rename(path.with_name(f"{path.stem}{name}"))
    dataset = read(data)
    assert dataset.classes == sorted(ODD_NAMES)
    assert sorted(labels(dataset)) == sorted(f"{name}/{i}{name}" for name in ODD_NAMES for i in range(2))


def test_a_name_that_is_not_utf8_is_listed_legibly(data, fill):
    fill("cat", 3)
    path = fill("dog", 4)[3]
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9.png"))
    for path in fill("bird", 2):
        os.makedirs(os.fsencode(data) + b"/o\xef", exist_ok=True)
        path.rename(os.fsdecode(os.fsencode(data) + b"/o\xef/" + os.fsencode(path.name)))
    (data / "bird").rmdir()
    dataset = read(data)
    assert dataset.classes == ["cat", "dog"]
    assert set(reasons(dataset)) == {"dog/caf\\xe9.png", "o\\xef/0.png", "o\\xef/1.png"}
    assert set(reasons(dataset).values()) == {"its name is not valid UTF-8; rename it"}
    assert empty_classes(dataset) == ["o\\xef"]
    assert len(listing_hash(str(data))) == 64


def test_linked_files_and_folders_are_read(data, fill, tmp_path):
    fill("cat", 3)
    fill("dog", 3)
    (data / "dog").rename(tmp_path / "elsewhere")
    (data / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(data)
    assert len(read(tmp_path / "link").manifest) == 6


def test_circles_of_links_are_walked_once(data, fill):
    fill("cat", 3)
    fill("dog", 3)
    (data / "cat" / "self").symlink_to(data / "cat")
    (data / "cat" / "root").symlink_to(data)
    (data / "cat" / "above").symlink_to(data.parent)
    assert set(labels(read(data))) == {f"{label}/{i}.png" for label in ("cat", "dog") for i in range(3)}


def test_two_folders_linked_to_each_other_are_walked_once_each_way(data, fill):
    fill("cat", 1)
    fill("dog", 1)
    (data / "cat" / "friend").symlink_to(data / "dog")
    (data / "dog" / "friend").symlink_to(data / "cat")
    assert sorted(map("/".join, sources._walk(data))) == [
        "cat/0.png",
        "cat/friend/0.png",
        "dog/0.png",
        "dog/friend/0.png",
    ]


def test_classes_without_a_usable_image_are_said(data, fill):
    for label in ("cat", "dog"):
        fill(label, 3)
    fill(".thumbnails/horse", 1)
    fill("__MACOSX/cow", 1)
    for label in ("bird", "fish"):
        (data / label).mkdir()
    (data / "bird" / "notes.txt").write_text("no image")
    dataset = read(data)
    assert empty_classes(dataset) == ["bird", "fish"]
    assert reasons(dataset)["fish"] == "a folder without files"
    assert dataset.classes == ["cat", "dog"]


def test_system_folders_beside_split_folders_are_no_class(data, fill):
    for label in ("cat", "dog"):
        fill(f"train/{label}", 5)
    fill("__MACOSX/train/cat", 1)
    assert empty_classes(read(data)) == []


def test_renaming_the_root_changes_neither_hash_nor_split(data, fill):
    for label in ("cat", "dog"):
        fill(label, 20)
    before = read(data)
    data.rename(data.with_name("moved"))
    after = read(data.with_name("moved"))
    assert after.data_hash == before.data_hash
    assert splits(after) == splits(before)


def test_renaming_files_changes_neither_hash_nor_split(data, fill):
    for label in ("cat", "dog"):
        fill(label, 20)
    before = read(data)
    for path in sorted((data / "cat").iterdir()):
        path.rename(path.with_name(f"renamed {path.name}"))
    after = read(data)
    assert after.data_hash == before.data_hash
    assert by_content(after) == by_content(before)


def test_the_hash_changes_with_a_label_a_split_and_a_content(data, fill):
    for label in ("cat", "dog"):
        fill(label, 20)
    hashes = [read(data).data_hash, read(data, seed=1).data_hash]
    (data / "cat" / "0.png").rename(data / "dog" / "from cat.png")
    hashes.append(read(data).data_hash)
    fill("dog", 1)
    hashes.append(read(data).data_hash)
    assert len(set(hashes)) == 4


def test_exact_duplicates_stay_together_where_the_split_is_drawn(data, fill):
    for label in ("cat", "dog"):
        for path in fill(label, 20):
            (path.parent / f"copy of {path.name}").write_bytes(path.read_bytes())
    found = splits(read(data))
    assert len(found) == 80
    assert set(found.values()) == {"train", "val", "test"}
    for path, split in found.items():
        folder, name = path.split("/")
        if not name.startswith("copy"):
            assert found[f"{folder}/copy of {name}"] == split


def test_exact_duplicates_across_given_splits_are_refused_and_test_keeps_its_own(data, fill):
    for label in ("cat", "dog"):
        for split in ("train", "val", "test"):
            fill(f"{split}/{label}", 4)
    for source, copy in [("test/cat/0", "train/cat/a"), ("test/cat/1", "val/dog/a"), ("val/dog/0", "train/dog/a")]:
        (data / f"{copy}.png").write_bytes((data / f"{source}.png").read_bytes())
    (data / "train/dog/b.png").write_bytes((data / "train/dog/0.png").read_bytes())  # within a split: no leak
    dataset = read(data)
    assert reasons(dataset) == {
        "train/cat/a.png": "an exact duplicate of an image of the test split",
        "val/dog/a.png": "an exact duplicate of an image of the test split",
        "train/dog/a.png": "an exact duplicate of an image of the val split",
    }
    assert len(dataset.manifest) + len(dataset.rejected) == files_below(data) == 28


def lines_of(n=4, template="{label}/{i}.png,{label}"):
    return [template.format(label=label, i=i) for label in ("cat", "dog") for i in range(n)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["image,label", " Image , LABEL"])
def test_a_csv_names_images_and_labels(manifest_csv, fill, encoding, header):
    fill("cat", 4)
    fill("dog", 4)
    dataset = read(manifest_csv(header, *lines_of(), encoding=encoding))
    assert labels(dataset) == {f"{label}/{i}.png": label for label in ("cat", "dog") for i in range(4)}
    assert len(dataset.rejected) == 0


def test_a_csv_gives_splits_and_groups(manifest_csv, fill):
    fill("cat", 4)
    fill("dog", 4)
    csv = manifest_csv(
        "split,group,label,image,remark",
        *lines_of(3, "Training,,{label},{label}/{i}.png,x"),
        "valid,g1,cat,cat/3.png,",
        "TEST,g2,dog,dog/3.png,",
    )
    dataset = read(csv)
    assert splits(dataset) == {f"{label}/{i}.png": "train" for label in ("cat", "dog") for i in range(3)} | {
        "cat/3.png": "val",
        "dog/3.png": "test",
    }
    assert dataset.manifest.set_index("path")["unit"]["cat/3.png"] == "0 g1"


def test_groups_of_a_csv_stay_together(manifest_csv, fill):
    fill("cat", 60)
    fill("dog", 60)
    groups = {f"{label}/{i}.png": f"g{i // 3}" for label in ("cat", "dog") for i in range(60)}
    dataset = read(manifest_csv("image,label,group", *(f"{path},{path[:3]},{group}" for path, group in groups.items())))
    table = dataset.manifest
    assert set(table["split"]) == {"train", "val", "test"}
    assert table.groupby("group")["split"].nunique().tolist() == [1] * 20


def test_a_group_across_given_splits_is_refused_but_on_one_side(manifest_csv, fill):
    fill("cat", 6)
    fill("dog", 6)
    given = ["train,", "train,", "train,", "train,g", "val,g", "test,g"]
    dataset = read(
        manifest_csv(
            "image,label,split,group",
            *(f"cat/{i}.png,cat,{rest}" for i, rest in enumerate(given)),
            *(f"dog/{i}.png,dog,{rest}" for i, rest in enumerate(["train,"] * 4 + ["val,", "test,"])),
        )
    )
    reason = "of the same group as an image of the test split"
    assert reasons(dataset) == {"cat/3.png": reason, "cat/4.png": reason}


def test_an_image_without_a_split_follows_its_group(manifest_csv, fill):
    fill("cat", 6)
    fill("dog", 6)
    dataset = read(
        manifest_csv(
            "image,label,split,group",
            *lines_of(4, "{label}/{i}.png,{label},train,"),
            *("cat/4.png,cat,test,tom", "cat/5.png,cat,,tom"),
            *("dog/4.png,dog,test,rex", "dog/5.png,dog,,rex"),
        )
    )
    assert [splits(dataset)[f"{label}/5.png"] for label in ("cat", "dog")] == ["test", "test"]


def test_every_line_of_a_csv_is_used_or_listed_with_its_reason(manifest_csv, fill, data):
    fill("cat", 7)
    fill("dog", 4)
    csv = manifest_csv(
        "image,label,split",
        *lines_of(4, "{label}/{i}.png,{label},"),
        "cat/0.png,cat,",
        "./cat/1.png,dog,",
        "cat/4.png,,",
        "cat/5.png,cat,holdout",
        "cat/6.png",
        "cat/none.png,cat,",
        ",cat,",
        "cat,cat,",
        "cat/6.png,cat,,surplus",
        "",
    )
    dataset = read(csv)
    assert len(dataset.manifest) == 8
    twice, folder = "the manifest names this image twice", "not a file"
    assert dataset.rejected.to_numpy().tolist() == [
        ["cat/0.png", "cat", twice],
        ["cat/1.png", "dog", twice],
        ["cat/4.png", "", "the manifest gives no label"],
        ["cat/5.png", "cat", "split 'holdout' is not train, val or test"],
        ["cat/6.png", "", "the manifest gives no label"],
        ["cat/none.png", "cat", "the file does not exist"],
        [".", "cat", folder],
        ["cat", "cat", folder],
        ["cat/6.png", "cat", "its line has more fields than the manifest has columns"],
    ]


def test_commas_at_the_end_of_every_line_do_no_harm(manifest_csv, fill):
    fill("cat", 4)
    fill("dog", 4)
    assert read(manifest_csv("image,label", *lines_of(template="{label}/{i}.png,{label},"))).classes == ["cat", "dog"]


def test_words_of_a_csv_stay_words(manifest_csv, fill):
    fill("cat", 3)
    fill("dog", 3)
    lines = [f"cat/{i}.png,NA" for i in range(3)] + [f"dog/{i}.png,007" for i in range(3)]
    assert read(manifest_csv("image,label", *lines)).classes == ["007", "NA"]


def test_a_csv_may_quote_commas_and_newlines(manifest_csv, fill):
    for label in ("cat", "dog"):
        for path in fill(label, 3):
            path.rename(path.with_name(f'{path.stem},"\n'))
    lines = [f'"{label}/{i},""\n","{label},\nhome"' for label in ("cat", "dog") for i in range(3)]
    assert read(manifest_csv("image,label", *lines)).classes == ["cat,\nhome", "dog,\nhome"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "lacks the columns image, label; a manifest has image,label"),
        (["image,class", "a,b"], r"lacks the column label; "),
        (["image;label", "a;b"], r"lacks the columns image, label; "),
        (["image,label,Label", "a,b,c"], r"has more than one column label; leave one"),
    ],
)
def test_a_csv_without_its_columns_says_which(manifest_csv, lines, sentence):
    with pytest.raises(DataError, match=sentence):
        read(manifest_csv(*lines))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_csv_in_another_encoding_is_refused(manifest_csv, encoding):
    with pytest.raises(DataError, match=r"list\.csv cannot be read as CSV"):
        read(manifest_csv("image,label", "für.png,Tür", encoding=encoding))


def test_no_data_one_class_and_small_classes_are_named(data, fill):
    data.mkdir()
    with pytest.raises(DataError, match="data has no usable image; at least two class folders"):
        read(data)
    fill("cat", 5)
    (data / "cat" / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"data has one class \('cat'\), 1 files refused; at least two"):
        read(data)
    fill("dog", 2)
    fill("bird", 1)
    with pytest.raises(DataError, match=r"Too few images in 'bird' \(1\), 'dog' \(2\); each class needs at least 3"):
        read(data, min_class_size=3)


def test_a_class_that_only_test_has_is_named(data, fill):
    for label in ("cat", "dog"):
        fill(f"train/{label}", 4)
    for label in ("cat", "dog", "bird"):
        fill(f"test/{label}", 4)
    with pytest.raises(DataError, match="training part has fewer than two images of 'bird'; move some there"):
        read(data)


def test_a_missing_folder_and_a_file_of_another_kind_are_said(data, tmp_path):
    with pytest.raises(DataError, match=r"data_dir .*data does not exist; give a folder with one sub-folder a class"):
        read(data)
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"images\.zip is a file of another kind; give a folder"):
        read(tmp_path / "images.zip")


@pytest.mark.parametrize(
    ("test", "val"), [(0.5, 0.5), (-0.1, 0.2), (0.2, -0.1), (1.0, 0.0), (float("nan"), 0.1), (0.1, float("nan"))]
)
def test_fractions_that_leave_nothing_to_train_on_are_refused(data, test, val):
    with pytest.raises(DataError, match=f"test_fraction {test} and val_fraction {val} leave nothing to train on"):
        read(data, test_fraction=test, val_fraction=val)


def test_a_folder_that_holds_the_artifacts_is_refused(data, fill, monkeypatch):
    fill("cat", 3)
    fill("dog", 3)
    monkeypatch.setenv("ARTIFACTS_DIR", str(data / "artifacts"))
    with pytest.raises(DataError, match="contains this project's artifacts; give the folder of images itself"):
        read(data)


def test_progress_sees_every_file(data, fill):
    fill("cat", 3)
    fill("dog", 3)
    (data / "dog" / "x.txt").write_text("x")
    seen = []
    read(data, progress=lambda items, total: (seen.append((item, total)) or item for item in items))
    assert len(seen) == 7
    assert {total for _, total in seen} == {7}


@pytest.fixture
def settled(data, fill):
    """Six images, changed an hour ago, and what their first reading gave."""
    fill("cat", 3)
    fill("dog", 3)
    for path in data.rglob("*.png"):
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    return read(data)


def test_what_has_kept_size_and_time_is_not_read_again(settled, data, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "inspect", lambda _: pytest.fail("read again"))
    again = read(data, known=settled.files)
    pd.testing.assert_frame_equal(again.manifest, settled.manifest)
    pd.testing.assert_frame_equal(again.files, settled.files)
    data.rename(tmp_path / "renamed")
    renamed = read(tmp_path / "renamed", known=settled.files)
    pd.testing.assert_frame_equal(renamed.manifest, settled.manifest)


@pytest.mark.parametrize("change", ["time", "size"])
def test_what_has_changed_size_or_time_is_read_again(settled, data, change):
    path = data / "cat" / "0.png"
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-12] + b"\0" * 12 if change == "time" else content + b"\0")
    if change == "size":
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    row = read(data, known=settled.files).manifest.set_index("path").loc["cat/0.png"]
    assert row["sha256"] == sha256_bytes(path.read_bytes())
    assert row["bytes"] == path.stat().st_size


def test_what_was_changed_just_before_it_was_read_is_read_again_next_time(settled, data):
    os.utime(data / "cat" / "0.png")
    assert "cat/0.png" not in set(read(data).files["path"])
    assert len(read(data).files) == 5


def test_the_sample_has_150_images_of_each_of_10_classes():
    counts = class_counts(read("data/sample").manifest)
    assert np.array_equal(counts.sum(axis=1), np.full(10, 150))
