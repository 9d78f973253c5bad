"""Which images train, validate and test: stable, stratified, leak-free. Arrays in, arrays out."""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from lib.errors import DataError

SPLITS = ("train", "val", "test")


def units(sha256: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Name the unit that must stay on one side of a split: exact duplicates and equal non-empty groups, transitively.

    Returns
    -------
    ndarray of shape (n,), str
        "0 <group>", the first group's name of each image's unit, or "1 <hash>", its content hash, where it has none.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    keys = []
    for sha, group in zip(sha256, groups, strict=True):
        content = f"1 {sha}"
        keys.append(content)
        if group:
            # "0 ..." sorts first, so a group's name, not a member's content, decides: new members never move it.
            first, second = sorted((root(f"0 {group}"), root(content)))
            parent[second] = first
    return np.array([root(key) for key in keys], dtype=object)


def unit_interval(unit: str, seed: int) -> float:
    """Stable pseudo-random number in [0, 1) of a unit's name and a seed."""
    digest = hashlib.sha256(f"{seed} {unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(
    sha256: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    given: Sequence[str],
    *,
    seed: int,
    test_fraction: float,
    val_fraction: float,
) -> np.ndarray:
    """Assign each image to train, val or test.

    A hash of content and seed decides for each image alone, so adding images never moves old ones. Each class is
    drawn at the same rates; a class so small that it got no test or validation image gives its next in line, and
    always keeps two for training. (In such a class a new image that draws its own way into test or validation sends
    the one that stood in back to train.) Splits given by the data are respected; a missing one is drawn from train,
    and an image without one follows the duplicates or group that have one.

    Parameters
    ----------
    sha256, labels, groups, given : sequences of str, length n
        `groups` and `given` hold "" where the data say nothing.
    seed : int
    test_fraction, val_fraction : float in [0, 1)

    Returns
    -------
    ndarray of shape (n,), object
        Values of SPLITS.
    """
    names, unit = _codes(units(sha256, groups))
    label_code = _codes(labels)[1]
    draw_of = np.array([unit_interval(name, seed) for name in names])
    draw = draw_of[unit]
    given = _given_by_unit(unit, np.asarray(given, dtype=object))
    if "test" in given:
        test_fraction = 0.0
    if "val" in given:
        val_fraction = 0.0
    drawn = np.where(draw < test_fraction, "test", np.where(draw < test_fraction + val_fraction, "val", "train"))
    movable = (given == "") | (given == "train")
    split = np.where(movable, drawn, given).astype(object)
    wanted = [name for name, rate in (("test", test_fraction), ("val", val_fraction)) if rate > 0]
    for code in np.unique(label_code[movable]):
        members = movable & (label_code == code)
        in_line = sorted(set(unit[members]), key=draw_of.__getitem__)
        _serve_small_class(split, movable, unit, members, in_line, wanted)
    return split


def _codes(values: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Distinct values in sorted order, and each value's place among them; shape (n,), int."""
    distinct = sorted(set(values))
    place = {value: code for code, value in enumerate(distinct)}
    return distinct, np.array([place[value] for value in values], dtype=int)


def _given_by_unit(unit: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Given splits, those of images without one filled in from their unit where it has images in val or test."""
    split_of = dict.fromkeys(unit[given == "val"], "val") | dict.fromkeys(unit[given == "test"], "test")
    return np.array([own or split_of.get(code, "") for code, own in zip(unit, given, strict=True)], dtype=object)


def _serve_small_class(
    split: np.ndarray, movable: np.ndarray, unit: np.ndarray, members: np.ndarray, in_line: list[int], wanted: list[str]
) -> None:
    """Move the first units in line, in place, until a class has what `wanted` names, and its last two to train."""
    for code in in_line[-2:]:
        split[movable & (unit == code)] = "train"
    for part in wanted:
        if part in split[members]:
            continue
        in_train = set(unit[members & (split == "train")])
        if len(in_train) > 2:
            first = next(code for code in in_line if code in in_train)
            split[movable & (unit == first)] = part


def folds(labels: np.ndarray, unit: np.ndarray, *, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified cross-validation folds that keep each unit together.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
    unit : ndarray of shape (n,), str
        From `units`.

    Returns
    -------
    list of (train indices, validation indices)

    Raises
    ------
    DataError
        If there are fewer units than folds, or a class would be missing from a fold's training side.
    """
    shuffle = {"n_splits": n_folds, "shuffle": True, "random_state": seed}
    if len(set(unit)) == len(unit) and np.bincount(labels).min() >= n_folds:
        return list(StratifiedKFold(**shuffle).split(labels, labels))
    smallest = min(len(set(unit[labels == code])) for code in set(labels))
    if smallest < 2:
        raise DataError("A class has all its training images in one group or duplicate; it needs at least two of them.")
    group_codes = np.unique(unit.astype(str), return_inverse=True)[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # its members are spread, one a fold
        try:
            pairs = list(StratifiedGroupKFold(**shuffle).split(labels, labels, group_codes))
        except ValueError:  # fewer units than folds, or no class with one image a fold
            pairs = []
    if not pairs or any(len(held) == 0 or set(labels[train]) != set(labels) for train, held in pairs):
        raise DataError("A class is too small, or its groups too large, for these folds; lower `folds` or add images.")
    return pairs
