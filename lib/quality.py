"""Faults of a data set, told from its manifest, vectors and looks. Arrays and tables in, tables out."""

import numpy as np
import pandas as pd

from lib.neighbours import K, Neighbours

DUPLICATE_COLUMNS = ["sha256", "path", "label", "split", "copies", "across_splits", "across_classes"]
PAIR_COLUMNS = ["path", "label", "split", "other_path", "other_label", "other_split",
                "distance", "evidence", "across_splits", "across_classes"]  # fmt: skip
SUSPECT_COLUMNS = ["image", "action", "label", "given", "p_given", "p_suggested", "confident", "split"]
FAULT_COLUMNS = ["image", "fault", "label", "split", "value", "usual"]

# Near duplicates: share of the distance to the K-th neighbour, on both sides. Measured on 1,500 pictures of clothes
# (28 x 28) and 713 photos into which 48 copies each were planted that were encoded again, made smaller, brighter or
# darker: all are found, with one pair and none of the images as they came; the last finds copies cut anew besides.
SAME_SHARE, CLOSE_BITS = 0.15, 6  # of the hash's bits, so many may differ besides
SAME_DISTANCE, SAME_BITS = 0.01, 4
CLOSE_SHARE = 0.3

DOUBTFUL = 0.1  # probability of the given label
BLANK, DARK, BRIGHT = 0.01, 0.25, 0.75  # grey values from 0 to 1: standard deviation, 99th and 1st percentile
SPREADS = 3.0  # robust standard deviations from the median of the data set
FACTOR = 2.0  # and at least so many times from it: what varies little is not odd at once


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


def near_duplicates(manifest: pd.DataFrame, network: Neighbours, grey: Neighbours, hashes: np.ndarray) -> pd.DataFrame:
    """Pairs of images that are one picture, or nearly, without being the same file.

    Two kinds of evidence: small grey copies that are far closer than their surroundings or nearly equal, with
    perceptual hashes that agree (encoded again, resized, brighter, darker); or vectors of the network far closer than
    their surroundings (cut anew, mirrored, taken a moment later).

    Parameters
    ----------
    manifest : DataFrame of n rows
    network : Neighbours
        Of the vectors.
    grey : Neighbours
        Of the small grey copies of `lib.appearance.Appearances`.
    hashes : ndarray of shape (n, n_bits), of -1 and 1

    Returns
    -------
    DataFrame
        PAIR_COLUMNS, one row a pair, leaks and label conflicts first, then the nearest: `distance` is that of the
        evidence, 1 - cosine of the vectors or 1 - correlation of the grey copies.
    """
    same = {
        pair: distance for pair, distance in _close(grey, SAME_SHARE).items() if _differ(hashes, pair) <= CLOSE_BITS
    }
    equal = _pairs(grey, grey.distances <= SAME_DISTANCE)
    same |= {pair: distance for pair, distance in equal.items() if _differ(hashes, pair) <= SAME_BITS}
    flat = (grey.distances == 1).all(axis=1)  # blank: all of them are alike to the network
    close = _close(network, CLOSE_SHARE)
    close = {pair: d for pair, d in close.items() if pair not in same and not flat[[*pair]].any()}
    found = [(*pair, d, "same picture") for pair, d in same.items()]
    found += [(*pair, d, "close vectors") for pair, d in close.items()]
    hash_of = manifest["sha256"].to_numpy()
    found = [row for row in found if hash_of[row[0]] != hash_of[row[1]]]
    columns = manifest[["path", "label", "split"]]
    rows = [(*columns.iloc[i], *columns.iloc[j], distance, evidence) for i, j, distance, evidence in found]
    table = pd.DataFrame(rows, columns=PAIR_COLUMNS[:8])
    table["across_splits"] = table["split"] != table["other_split"]
    table["across_classes"] = table["label"] != table["other_label"]
    return table.sort_values(
        ["across_classes", "across_splits", "evidence", "distance", "path"],
        ascending=[False, False, False, True, True],
        ignore_index=True,
    )


def _close(near: Neighbours, share: float) -> dict[tuple[int, int], float]:
    """Pairs (smaller index first) far closer to each other than both are to their surroundings, with their distance."""
    if near.indices.shape[1] < K:
        return {}  # so few images have no surroundings
    return _pairs(near, near.distances <= share * np.minimum(near.around[:, None], near.around[near.indices]))


def _pairs(near: Neighbours, chosen: np.ndarray) -> dict[tuple[int, int], float]:
    """Chosen neighbours, a mask of shape (n, k), as pairs (smaller index first) with their distance."""
    first, place = np.nonzero(chosen)
    ends = np.sort(np.column_stack([first, near.indices[first, place]]), axis=1)
    return dict(zip(map(tuple, ends.tolist()), near.distances[first, place].tolist(), strict=True))


def _differ(hashes: np.ndarray, pair: tuple[int, int]) -> int:
    """Bits in which the hashes of a pair differ."""
    return int((hashes[pair[0]] != hashes[pair[1]]).sum())


def label_suspects(manifest: pd.DataFrame, labels: np.ndarray, proba: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Images whose label is probably wrong: another class is the most probable, and theirs is below DOUBTFUL.

    `confident` tells which of them confident learning flags too (Northcutt et al. 2021): another class is as probable
    for them as it is for its own images on average. That alone misses a quarter to a third of the wrong labels that
    this finds, at the same precision.

    Parameters
    ----------
    manifest : DataFrame of n rows
    labels : ndarray of shape (n,), int
    proba : ndarray of shape (n, n_classes), float
        Out of fold: see `lib.training.label_opinions`.
    classes : list of str

    Returns
    -------
    DataFrame
        SUSPECT_COLUMNS, the most doubtful label first. The first three columns are what a corrections.csv holds, with
        the suggested class as `label`.
    """
    suggested = proba.argmax(axis=1)
    own = proba[np.arange(len(labels)), labels]
    usual = np.array([proba[labels == code, code].mean() for code in range(len(classes))])
    rows = np.flatnonzero((suggested != labels) & (own < DOUBTFUL))
    names = np.array(classes, dtype=object)
    table = manifest.iloc[rows]
    found = pd.DataFrame(
        {
            "image": table["path"].to_numpy(),
            "action": "relabel",
            "label": names[suggested[rows]],
            "given": table["label"].to_numpy(),
            "p_given": own[rows],
            "p_suggested": proba[rows, suggested[rows]],
            "confident": proba[rows, suggested[rows]] >= usual[suggested[rows]],
            "split": table["split"].to_numpy(),
        }
    )
    return found.sort_values("p_given", kind="stable", ignore_index=True)[SUSPECT_COLUMNS]


def with_opinions(manifest: pd.DataFrame, labels: np.ndarray, proba: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """The manifest with two more columns: predicted, the most probable class, and p_given, the label's probability."""
    predicted = np.array(classes, dtype=object)[proba.argmax(axis=1)]
    return manifest.assign(predicted=predicted, p_given=proba[np.arange(len(labels)), labels])


def unreviewed(table: pd.DataFrame, kept: set[str]) -> pd.DataFrame:
    """A table of this module without the images a person decided to keep; of pairs without those of two such images."""
    if "image" in table:
        reviewed = table["image"].isin(kept)
    else:
        reviewed = table["path"].isin(kept) & table["other_path"].isin(kept)
    return table[~reviewed].reset_index(drop=True)


def verdict(n_images: int, pairs: pd.DataFrame, suspects: pd.DataFrame, faults: pd.DataFrame) -> list[str]:
    """Whether the data are fit to learn from, and what to do first, in sentences.

    Parameters
    ----------
    n_images : int
        Training and validation images looked at.
    pairs, suspects, faults : DataFrame
        Near duplicates, label suspects, and faults with outliers, as found here.
    """
    images = {*suspects["image"], *faults["image"]}
    sentences = [f"{len(images):,} of {n_images:,} images have a doubtful label, a fault, or are far from all others."]
    sides = [frozenset(pair) for pair in zip(pairs["split"], pairs["other_split"], strict=True)]
    tested = sum(side == {"train", "test"} for side in sides)
    if tested:
        sentences.append(
            f"First: {tested} pairs lie between training and test, so the test would flatter. Drop the training image "
            "of each, or give both one group in a CSV manifest."
        )
    if disputed := int(pairs["across_classes"].sum()):
        sentences.append(f"{disputed} pairs carry two labels: correct one of each.")
    if len(suspects):
        sentences.append(f"Look through the {len(suspects):,} label suspects, from the top, and relabel or keep them.")
    if len(faults):
        sentences.append("Drop faulty images that your users would never send, and keep those that they would.")
    return sentences if len(sentences) > 1 else [*sentences, "Nothing here speaks against learning from these images."]


def outliers(manifest: pd.DataFrame, near: Neighbours) -> pd.DataFrame:
    """Images far from all others, the farthest first.

    The distance to their last neighbour lies beyond Tukey's fence: 1.5 quartile ranges above the upper quartile.

    Parameters
    ----------
    manifest : DataFrame of n rows
    near : Neighbours
        Of the vectors.

    Returns
    -------
    DataFrame
        FAULT_COLUMNS: `value` is the distance to the k-th neighbour, `usual` the median of all.
    """
    far = near.around.astype(np.float64)
    low, middle, high = np.percentile(far, [25, 50, 75])
    return _faults(manifest, far > high + 1.5 * (high - low), "outlier", far, middle)


def image_faults(manifest: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Blank, dark, bright, blurred and odd-sized images.

    Parameters
    ----------
    manifest : DataFrame of n rows
    measures : DataFrame of n rows
        From `lib.appearance.Appearances`.

    Returns
    -------
    DataFrame
        FAULT_COLUMNS; an image may have several. `usual` is the median of the data set.
    """
    blank = (measures["contrast"] < BLANK).to_numpy()
    shape = np.maximum(manifest["width"] / manifest["height"], manifest["height"] / manifest["width"]).to_numpy()
    side = manifest[["width", "height"]].min(axis=1).to_numpy(dtype=float)
    sharpness = measures["sharpness"].to_numpy()
    found = [
        _faults(manifest, blank, "blank", measures["contrast"], measures["contrast"].median()),
        _faults(manifest, ~blank & (measures["brightest"] < DARK), "dark", measures["brightest"]),
        _faults(manifest, ~blank & (measures["darkest"] > BRIGHT), "bright", measures["darkest"]),
        _faults(manifest, ~blank & _far_below(sharpness), "blurred", sharpness),
        _faults(manifest, _far_below(1 / shape), "odd shape", shape),
        _faults(manifest, _far_below(side) | _far_below(1 / side), "odd size", side),
    ]
    return pd.concat(found, ignore_index=True)


def _far_below(values: np.ndarray) -> np.ndarray:
    """Which positive values lie SPREADS robust standard deviations and FACTOR times below the median."""
    logs = np.log(np.maximum(values, 1e-9))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return (logs < middle - SPREADS * spread) & (logs < middle - np.log(FACTOR))


def _faults(
    manifest: pd.DataFrame, chosen: np.ndarray, fault: str, values: np.ndarray, usual: float | None = None
) -> pd.DataFrame:
    """The chosen images as rows of FAULT_COLUMNS, the strangest first."""
    rows = np.flatnonzero(chosen)
    table, values = manifest.iloc[rows], np.asarray(values, dtype=np.float64)
    usual = float(np.median(values)) if usual is None else usual
    found = pd.DataFrame(
        {
            "image": table["path"].to_numpy(),
            "fault": fault,
            "label": table["label"].to_numpy(),
            "split": table["split"].to_numpy(),
            "value": values[rows],
            "usual": usual,
        }
    )
    order = np.argsort(-np.abs(found["value"] - usual), kind="stable")
    return found.iloc[order][FAULT_COLUMNS].reset_index(drop=True)
