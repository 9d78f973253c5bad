import pandas as pd

from lib.quality import DUPLICATE_COLUMNS, exact_duplicates


def manifest(*rows):
    return pd.DataFrame(rows, columns=["sha256", "path", "label", "split"]).assign(width=28)


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
