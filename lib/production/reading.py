"""Answers, failures and labels of a log as tables. Needs pandas, which the service does not have."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sqlalchemy import func, inspect, select

from lib.errors import LogError
from lib.production import schema

LABEL_COLUMNS = [
    "number", "created", "label", "source", "prediction", "sha256", "kept", "version", "arm", "answered", "probability",
    "decision", "vector", "backbone", "answered_at",
]  # fmt: skip

ANSWER_COLUMNS = [
    "id", "created", "version", "arm", "label", "probability", "decision", "distance", "milliseconds", "sha256", "kept",
    "backbone",
]  # fmt: skip
TOGETHER = 500  # rows that are asked for by id at a time


def read_answers(task: str, url: str, start: float, end: float) -> pd.DataFrame:
    """What was answered from `start` until before `end`, seconds since 1970; oldest first, without shadows.

    Returns
    -------
    DataFrame
        ANSWER_COLUMNS; see `schema.predictions`.
    """
    about = schema.predictions.c
    query = select(*(about[name] for name in ANSWER_COLUMNS)).where(*_answered(task, start, end))
    with schema.reading(task, url) as connection:
        rows = connection.execute(query.order_by(about.created, about.id)).all()
    return pd.DataFrame(rows, columns=ANSWER_COLUMNS)


def read_extent(task: str, url: str) -> tuple[float, float] | None:
    """When the oldest and the newest answer that are kept were given, shadows apart; None where there is none."""
    about = schema.predictions.c
    ends = select(func.min(about.created), func.max(about.created))
    with schema.reading(task, url) as connection:
        first, last = connection.execute(ends.where(about.task == task, about.shadow_of.is_(None))).one()
    return None if first is None else (first, last)


def read_starts(task: str, url: str, every: int, since: float) -> list[float]:
    """When the first answer from `since` on, and each `every`-th after it, was given; shadows apart."""
    about = schema.predictions.c
    own = (about.task == task, about.shadow_of.is_(None), about.created >= since)
    place = func.row_number().over(order_by=(about.created, about.id)).label("place")
    numbered = select(about.created, place).where(*own).subquery()
    query = select(numbered.c.created).where((numbered.c.place - 1) % every == 0).order_by(numbered.c.place)
    with schema.reading(task, url) as connection:
        return list(connection.execute(query).scalars())


def read_vectors(task: str, url: str, ids: Sequence[str]) -> np.ndarray:
    """Vectors of these answers, in their order: (n, dim) float32; raises LogError if one is no longer there."""
    about = schema.predictions.c
    found: dict[str, bytes] = {}
    with schema.reading(task, url) as connection:
        for start in range(0, len(ids), TOGETHER):
            query = select(about.id, about.vector).where(about.id.in_(ids[start : start + TOGETHER]))
            found.update(connection.execute(query).all())
    if len(found) < len(set(ids)):
        raise LogError("Rows of the production log were deleted while they were read; run again.")
    return stacked(pd.Series([found[name] for name in ids], dtype=object))


def read_failures(task: str, url: str, start: float, end: float) -> dict[int, int]:
    """Requests for a prediction that failed from `start` until before `end`: how many by status."""
    said = schema.failures.c
    query = select(said.status, func.sum(said.n)).group_by(said.status).order_by(said.status)
    query = query.where(said.task == task, said.created >= start, said.created < end)
    with schema.reading(task, url) as connection:
        if not inspect(connection).has_table(schema.failures.name):  # a log of an earlier release
            return {}
        return {status: int(n) for status, n in connection.execute(query)}


def _answered(task: str, start: float, end: float) -> tuple:
    """What is true of rows that were answered then."""
    about = schema.predictions.c
    return about.task == task, about.shadow_of.is_(None), about.created >= start, about.created < end


def read_labels(task: str, url: str = "") -> pd.DataFrame:
    """Every label that was given, oldest first, with the answer that it is about.

    Returns
    -------
    DataFrame
        LABEL_COLUMNS: `label` is what was said, `answered` what the model had answered with `probability`; `vector`
        is float32 in bytes; `created` is when the label was given and `answered_at` when the answer was, seconds since
        1970.
    """
    said, about = schema.feedback.c, schema.predictions.c
    columns = [
        said.number, said.created, said.label, said.source, said.prediction, about.sha256, about.kept, about.version,
        about.arm, about.label.label("answered"), about.probability, about.decision, about.vector, about.backbone,
        about.created.label("answered_at"),
    ]  # fmt: skip
    query = select(*columns).join(schema.predictions, about.id == said.prediction)
    query = query.where(said.task == task).order_by(said.created, said.number)
    with schema.reading(task, url) as connection:
        return pd.DataFrame(connection.execute(query).all(), columns=LABEL_COLUMNS)


def read_counts(task: str, url: str, since: int) -> tuple[int, int]:
    """Number of the newest label, 0 before there is one, and how many have a larger number than `since`."""
    said = schema.feedback.c
    own = select(func.max(said.number), func.count().filter(said.number > since)).where(said.task == task)
    with schema.reading(task, url) as connection:
        newest, n_since = connection.execute(own).one()
    return newest or 0, n_since


def stacked(vectors: pd.Series) -> np.ndarray:
    """Vectors in bytes -> (n, dim), float32."""
    return np.stack([np.frombuffer(vector, "<f4") for vector in vectors]) if len(vectors) else np.empty((0, 0), "f4")
