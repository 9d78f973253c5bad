"""What the images of a task look like and which of them are copies: what 02 and 04 both ask, answered once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.appearance import Appearance, appearances
from lib.embeddings import embed
from lib.errors import DataError
from lib.neighbours import find_neighbours
from lib.progress import Progress, quiet
from lib.quality import near_duplicates
from lib.tasks import TaskEmbeddings


@dataclass(frozen=True)
class Inspection:
    """What was found on n images.

    Parameters
    ----------
    manifest : DataFrame of n rows
    measures : DataFrame of n rows
        `lib.appearance.MEASURES` of each image.
    near_duplicates : DataFrame
        Pairs, see `lib.quality.near_duplicates`.
    """

    manifest: pd.DataFrame
    measures: pd.DataFrame
    near_duplicates: pd.DataFrame

    def measures_of(self, splits: Sequence[str]) -> pd.DataFrame:
        """Measures of the images of these splits, in the manifest's order, numbered from 0."""
        return self.measures[self.manifest["split"].isin(splits).to_numpy()].reset_index(drop=True)

    def without_copy_in(self, other: str, split: str) -> np.ndarray:
        """Which images of `split` have no near copy in the split `other`; bool, in the manifest's order."""
        pairs = self.near_duplicates
        first = pairs.loc[(pairs["split"] == split) & (pairs["other_split"] == other), "path"]
        second = pairs.loc[(pairs["other_split"] == split) & (pairs["split"] == other), "other_path"]
        paths = self.manifest.loc[self.manifest["split"] == split, "path"]
        return ~paths.isin({*first, *second}).to_numpy()


def inspect_images(data: TaskEmbeddings, progress: Progress = quiet) -> Inspection:
    """Measure the images of a task and find its near copies by their looks and by their vectors.

    Raises
    ------
    DataError
        If an image cannot be decoded any more.
    """
    seen = embed(data.root, data.manifest["path"], data.manifest["sha256"], Appearance(), progress=progress)
    for path, reason in seen.failures.items():
        raise DataError(f"{path} {reason}; run the embedding stage again.")
    looks = appearances(seen.vectors)
    near = find_neighbours(data.vectors, progress=progress)
    pairs = near_duplicates(data.manifest, near, find_neighbours(looks.greys), looks.hashes)
    return Inspection(data.manifest, looks.measures, pairs)
