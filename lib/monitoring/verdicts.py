"""What is said of each window, and of them all: ok, a warning, an alarm, or not enough data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from lib.alarms import ALARM, OK, TOO_FEW, WARNING
from lib.drift import (
    LEVEL,
    N_FULL,
    Test,
    discrepancy,
    displacement,
    permutation_test,
    separability,
    stability_index,
    together,
    unevenness,
)
from lib.monitoring.baseline import DECISIONS, Views

MONTH = 30  # windows over which one false alarm in 1 / LEVEL months is allowed
CALM = 2  # windows in a row that must be unsuspicious before an alarm ends
REFERENCE = 1000  # reference images that vectors of a window are compared with
N_BINS = 10


@dataclass(frozen=True)
class Verdict:
    """A comparison of one window.

    Parameters
    ----------
    n : int
        Images that were compared.
    embeddings, answers : Test
        Of vectors, and of what the champion answers.
    indices : dict of str to float
        Population stability index of classes, confidence and decisions.
    """

    n: int
    embeddings: Test
    answers: Test
    indices: dict[str, float]

    @property
    def p_value(self) -> float:
        """Of both tests together."""
        return together([self.embeddings.p_value, self.answers.p_value])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        tests = {"embeddings": self.embeddings, "answers": self.answers}
        return {
            "n_compared": self.n,
            "p_value": self.p_value,
            **{f"p_{name}": test.p_value for name, test in tests.items()},
            "statistics": {
                name: {"value": value, "p_value": test.p_values[name]}
                for test in tests.values()
                for name, value in test.values.items()
            },
            "stability_index": self.indices,
        }


def compare(
    window: Views, points: np.ndarray, unseen: Views, width: float, *, seed: int, most: int = N_FULL
) -> Verdict:  # fmt: skip
    """Hold a window against reference images.

    Parameters
    ----------
    window : Views
        At least LEAST images.
    points : ndarray of shape (m, k), float32
        Of reference images; at most REFERENCE of them are drawn.
    unseen : Views
        Of reference images whose answers count.
    width : float
        Of the space.
    seed : int
    most : int
        See `permutation_test`.
    """
    drawn = points[np.random.default_rng(seed).permutation(len(points))[:REFERENCE]]
    return Verdict(
        len(window),
        compare_points(window.points, drawn, width, seed=seed, most=most),
        _compare_answers(window, unseen, seed=seed, most=most),
        _indices(window, unseen),
    )


def compare_points(window: np.ndarray, reference: np.ndarray, width: float, *, seed: int, most: int = N_FULL) -> Test:
    """Test of vectors alone."""
    pooled = np.concatenate([window, reference])
    statistics = {"MMD": discrepancy(pooled, width), "classifier AUC": separability(pooled)}
    return permutation_test(statistics, len(window), len(reference), seed=seed, most=most)


def _compare_answers(window: Views, unseen: Views, *, seed: int, most: int) -> Test:
    """Test of answers alone."""
    statistics = {
        "classes": unevenness(np.concatenate([window.codes, unseen.codes])),
        "confidence": displacement(np.concatenate([window.confidence, unseen.confidence])),
        "decisions": unevenness(np.concatenate([window.decisions, unseen.decisions])),
    }
    return permutation_test(statistics, len(window), len(unseen), seed=seed, most=most)


def _indices(window: Views, unseen: Views) -> dict[str, float]:
    """Stability indices; confidence in tenths of the reference."""
    n_classes = int(max(window.codes.max(), unseen.codes.max())) + 1
    edges = np.quantile(unseen.confidence, np.arange(1, N_BINS) / N_BINS)

    def index(first: np.ndarray, second: np.ndarray, n: int) -> float:
        return stability_index(np.bincount(first, minlength=n), np.bincount(second, minlength=n))

    tenths = [np.searchsorted(edges, views.confidence, side="right") for views in (unseen, window)]
    return {
        "classes": index(unseen.codes, window.codes, n_classes),
        "confidence": index(*tenths, N_BINS),
        "decisions": index(unseen.decisions, window.decisions, len(DECISIONS)),
    }


def one_thread() -> threadpool_limits:
    """A context in which products of matrices take one core.

    A second one makes these tests no faster (21 ms each way on two cores), and twice as slow while the service or
    anything else needs it.
    """
    return threadpool_limits(1, user_api="blas")


class Standing(NamedTuple):
    """Where things stand after a window: the state, and how many windows in a row have been unsuspicious."""

    state: str
    calm: int


NOTHING_YET = Standing(TOO_FEW, CALM)


def follow(
    p_values: Sequence[float | None], begun: Standing = NOTHING_YET, *, level: float = LEVEL,
    windows: int = MONTH,
) -> list[Standing]:  # fmt: skip
    """Where things stand after each window, in order; None stands for one with too few images.

    A window below `level` is a warning: without any change one in 1 / level windows is. One below level / windows is an
    alarm: without any change there is one in at most `level` of the spans of so many windows (Bonferroni), however the
    windows depend on each other. An alarm lasts until CALM windows in a row are above `level`.

    Parameters
    ----------
    p_values : sequence of float or None
    begun : Standing
        Before the first of them.
    level : float
    windows : int
    """
    standings, (state, calm) = [], begun
    for p_value in p_values:
        alarmed = state == ALARM
        if p_value is None:
            state = ALARM if alarmed else TOO_FEW
        else:
            calm = calm + 1 if p_value > level else 0
            if p_value <= level / windows or (alarmed and calm < CALM):
                state = ALARM
            else:
                state = WARNING if p_value <= level else OK
        standings.append(Standing(state, calm))
    return standings
