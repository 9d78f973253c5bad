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
        The smallest content hash of each image's unit, or the group's name where it has one.
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
    always keeps two for training. Splits given by the data are respected; a missing one is drawn from train.

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
    unit = units(sha256, groups)
    labels, given = np.asarray(labels, dtype=object), np.asarray(given, dtype=object)
    draw = np.array([unit_interval(name, seed) for name in unit])
    if "test" in given:
        test_fraction = 0.0
    if "val" in given:
        val_fraction = 0.0
    drawn = np.where(draw < test_fraction, "test", np.where(draw < test_fraction + val_fraction, "val", "train"))
    movable = (given == "") | (given == "train")
    split = np.where(movable, drawn, given).astype(object)
    wanted = [name for name, rate in (("test", test_fraction), ("val", val_fraction)) if rate > 0]
    for label in sorted(set(labels[movable])):
        members = movable & (labels == label)
        in_line = sorted(set(unit[members]), key=dict(zip(unit, draw, strict=True)).get)
        _serve_small_class(split, movable, unit, members, in_line, wanted)
    return split


def _serve_small_class(
    split: np.ndarray, movable: np.ndarray, unit: np.ndarray, members: np.ndarray, in_line: list[str], wanted: list[str]
) -> None:
    """Move the first units in line, in place, until a class has what `wanted` names, and its last two to train."""
    for name in in_line[-2:]:
        split[movable & (unit == name)] = "train"
    for part in wanted:
        if part in split[members]:
            continue
        in_train = set(unit[members & (split == "train")])
        if len(in_train) > 2:
            first = next(name for name in in_line if name in in_train)
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
        If a class would be missing from a fold's training side.
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
        pairs = list(StratifiedGroupKFold(**shuffle).split(labels, labels, group_codes))
    if any(set(labels[train]) != set(labels) for train, _ in pairs):
        raise DataError("A class is too small, or its groups too large, for these folds; lower `folds` or add images.")
    return pairs
