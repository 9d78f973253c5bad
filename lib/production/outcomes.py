"""What labels say of answers, by arm of an experiment; read beside a running service without ever locking its log."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from lib.errors import LogError, first_line
from lib.production import schema


@dataclass(frozen=True)
class Outcomes:
    """Labelled answers since some time.

    Parameters
    ----------
    right : dict of arm to list of bool
        Whether each labelled answer was right.
    pairs : list of (bool, bool)
        Of images that champion and challenger both answered: whether each was right.
    clients : dict of arm to int
        How many clients each arm has answered, labelled or not.
    """

    right: dict[str, list[bool]] = field(default_factory=dict)
    pairs: list[tuple[bool, bool]] = field(default_factory=list)
    clients: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection to a log that is only read; raises LogError where it cannot be."""
    engine = schema.read_from(url)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LogError(f"The production log cannot be read: {first_line(cause)}.") from error
    finally:
        engine.dispose()


def read_outcomes(url: str, task: str, since: float) -> Outcomes:
    """Outcomes of answers given since then (seconds since 1970); of several labels of one the latest counts.

    Raises
    ------
    LogError
        If the log cannot be read.
    """
    about, said = schema.predictions, schema.feedback
    other = about.alias()
    labelled = (
        select(about.c.id, about.c.arm, about.c.label, said.c.label, other.c.label)
        .join(said, said.c.prediction == about.c.id)
        .outerjoin(other, other.c.shadow_of == about.c.id)
        .where(about.c.task == task, about.c.created >= since)
        .order_by(said.c.created, said.c.number)
    )
    counted = (
        select(about.c.arm, func.count(about.c.client.distinct()))
        .where(about.c.task == task, about.c.created >= since)
        .group_by(about.c.arm)
    )
    with reading(url) as connection:
        latest = {row[0]: row[1:] for row in connection.execute(labelled)}
        clients = dict(connection.execute(counted).all())
    right: dict[str, list[bool]] = {}
    pairs = []
    for arm, answered, label, shadowed in latest.values():
        right.setdefault(arm, []).append(answered == label)
        if shadowed is not None:
            pairs.append((answered == label, shadowed == label))
    return Outcomes(right, pairs, clients)
