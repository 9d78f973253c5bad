"""The labels of a log as a table. Needs pandas, which the service does not have."""

import numpy as np
import pandas as pd
from sqlalchemy import func, select

from lib.production import schema

LABEL_COLUMNS = [
    "number", "created", "label", "source", "prediction", "sha256", "kept", "version", "arm", "answered", "probability",
    "decision", "vector", "backbone",
]  # fmt: skip


def read_labels(task: str, url: str = "") -> pd.DataFrame:
    """Every label that was given, oldest first, with the answer that it is about.

    Returns
    -------
    DataFrame
        LABEL_COLUMNS: `label` is what was said, `answered` what the model had answered with `probability`; `vector`
        is float32 in bytes; `created` is when the label was given, seconds since 1970.
    """
    said, about = schema.feedback.c, schema.predictions.c
    columns = [
        said.number, said.created, said.label, said.source, said.prediction, about.sha256, about.kept, about.version,
        about.arm, about.label.label("answered"), about.probability, about.decision, about.vector, about.backbone,
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
