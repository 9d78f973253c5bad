"""What an update changed in the answers to images it was not trained on: has it forgotten anything?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.metrics import proportion


@dataclass(frozen=True)
class BeforeAfter:
    """Answers of a model and of its update to the same images.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        Codes into `classes`.
    before : ndarray of shape (n, n_known), float
        Probabilities of the model; it knows the first n_known classes.
    after : ndarray of shape (n, n_classes), float
        Those of the update.
    classes : list of str
        Of the update: the model's, then new ones.
    """

    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray
    classes: list[str]

    @property
    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """Class codes that were answered before and after, two int arrays of shape (n,)."""
        return self.before.argmax(axis=1), self.after.argmax(axis=1)


def recall_changes(both: BeforeAfter) -> pd.DataFrame:
    """Recall of each class before and after, with Wilson intervals.

    Returns
    -------
    DataFrame
        Columns label, n, before, before_low, before_high, after, after_low, after_high, difference; classes without an
        image are left out.
    """
    first, second = both.answers
    rows = []
    for code, label in enumerate(both.classes):
        own = both.labels == code
        n = int(own.sum())
        if n:
            scores = [proportion(int((answer[own] == code).sum()), n) for answer in (first, second)]
            flat = [value for score in scores for value in (score.value, score.low, score.high)]
            rows.append((label, n, *flat, scores[1].value - scores[0].value))
    columns = ["label", "n", "before", "before_low", "before_high", "after", "after_low", "after_high", "difference"]
    return pd.DataFrame(rows, columns=columns)


def changed_answers(both: BeforeAfter, images: pd.DataFrame) -> pd.DataFrame:
    """Images that are answered otherwise now, what was right before and is wrong now first.

    Parameters
    ----------
    both : BeforeAfter
    images : DataFrame of n rows
        With columns sha256 and path.

    Returns
    -------
    DataFrame
        Columns sha256, path, label, before, after, effect ("lost", "gained" or "wrong both times").
    """
    first, second = both.answers
    names = np.array(both.classes, dtype=object)
    rows = np.flatnonzero(first != second)
    was_right, is_right = first[rows] == both.labels[rows], second[rows] == both.labels[rows]
    effects = np.select([was_right, is_right], ["lost", "gained"], "wrong both times")
    table = images[["sha256", "path"]].iloc[rows].assign(
        label=names[both.labels[rows]], before=names[first[rows]], after=names[second[rows]], effect=effects
    )  # fmt: skip
    order = {"lost": 0, "gained": 1, "wrong both times": 2}
    return table.sort_values("effect", key=lambda effects: effects.map(order), kind="stable", ignore_index=True)
