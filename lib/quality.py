"""Faults of a data set that can be told from its manifest and vectors."""

import pandas as pd

DUPLICATE_COLUMNS = ["sha256", "path", "label", "split", "copies", "across_splits", "across_classes"]


def exact_duplicates(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images whose content occurs more than once, copies beside each other.

    Returns
    -------
    DataFrame
        DUPLICATE_COLUMNS: `copies` counts the files of one content; `across_splits` and `across_classes` tell
        whether they lie on several sides of the split (a leak) or carry several labels (a conflict).
    """
    grouped = manifest.groupby("sha256")
    table = manifest.assign(
        copies=grouped["path"].transform("size"),
        across_splits=grouped["split"].transform("nunique") > 1,
        across_classes=grouped["label"].transform("nunique") > 1,
    )
    return table.loc[table["copies"] > 1, DUPLICATE_COLUMNS].sort_values(["sha256", "path"], ignore_index=True)
