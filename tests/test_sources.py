import os

import pytest

from lib.errors import ParameterError
from lib.sources import default_task, listing_hash


def test_the_listing_changes_with_the_files_and_not_otherwise(data, fill):
    paths = fill("cat", 3)
    seen = [listing_hash(str(data))]
    assert listing_hash(str(data)) == seen[0]
    data.rename(data.with_name("moved"))
    assert listing_hash(str(data.with_name("moved"))) == seen[0]
    data.with_name("moved").rename(data)
    fill("dog", 1)
    seen.append(listing_hash(str(data)))
    paths[0].rename(paths[0].with_name("new name.png"))
    seen.append(listing_hash(str(data)))
    paths[1].write_bytes(b"other")
    seen.append(listing_hash(str(data)))
    os.utime(paths[1], ns=(0, 1))
    seen.append(listing_hash(str(data)))
    paths[2].unlink()
    seen.append(listing_hash(str(data)))
    assert len(set(seen)) == len(seen)


def test_the_listing_of_a_csv_holds_the_files_it_names_wherever_they_are(manifest_csv, data, fill, tmp_path):
    relative, absolute, above, unnamed = fill("cat", 4)
    absolute = absolute.rename(tmp_path / "absolute.png")
    above.rename(tmp_path / "above.png")
    source = str(manifest_csv("image,label", "cat/0.png,cat", f"{absolute},cat", "../above.png,cat", "none.png,cat"))
    seen = [listing_hash(source)]
    unnamed.unlink()
    assert listing_hash(source) == seen[0]
    for path in (relative, absolute, tmp_path / "above.png", data / "none.png", data / "list.csv"):
        with path.open("ab") as file:
            file.write(b"\n")
        seen.append(listing_hash(source))
    assert len(set(seen)) == 6


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("data/sample", "sample"),
        ("data/sample/", "sample"),
        ("/photos/My birds", "My-birds"),
        ("/photos/Birds.CSV", "Birds"),
        ("/photos/birds.v2", "birds.v2"),
        ("/photos/birds/../cats", "cats"),
        ("torchvision:FashionMNIST", "fashionmnist"),
    ],
)
def test_the_task_is_named_for_the_data(source, task):
    assert default_task(source) == task


def test_a_data_source_without_a_name_asks_for_one():
    with pytest.raises(ParameterError, match="--task"):
        default_task("/")
