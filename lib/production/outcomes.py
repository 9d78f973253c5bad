"""What labels say of answers, by arm of an experiment; read beside a running service without ever locking its log."""

from collections.abc import Set
from dataclasses import dataclass, field

from sqlalchemy import select

from lib.production import schema


@dataclass(frozen=True)
class Outcomes:
    """Labelled answers since some time.

    Parameters
    ----------
    right : dict of arm to list of (client, bool)
        Whose each labelled answer was, and whether it was right; one of an image that a client sent again and again.
    pairs : list of (bool, bool)
        Of images that champion and challenger both answered: whether each was right.
    clients : dict of arm to set of str
        Whom each arm has answered, labelled or not.
    """

    right: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)
    pairs: list[tuple[bool, bool]] = field(default_factory=list)
    clients: dict[str, set[str]] = field(default_factory=dict)


def read_outcomes(task: str, url: str, since: float, doubted: Set[str] = frozenset()) -> Outcomes:
    """Outcomes of answers given since then (seconds since 1970).

    Of several labels of one answer, and of several answers to one client's image, the latest counts.

    Parameters
    ----------
    task : str
    url : str
        Database, "" for the task's own SQLite file.
    since : float
    doubted : set of str
        SHA-256 of images whose labels do not count.

    Raises
    ------
    LogError
        If the log cannot be read.
    """
    about, said = schema.predictions, schema.feedback
    other = about.alias()
    labelled = (
        select(about.c.arm, about.c.client, about.c.sha256, about.c.label, said.c.label, other.c.label)
        .join(said, said.c.prediction == about.c.id)
        .outerjoin(other, other.c.shadow_of == about.c.id)
        .where(about.c.task == task, about.c.created >= since)
        .order_by(said.c.created, said.c.number)
    )
    asked = select(about.c.arm, about.c.client).where(about.c.task == task, about.c.created >= since).distinct()
    with schema.reading(task, url) as connection:
        latest = {tuple(row[:3]): row[3:] for row in connection.execute(labelled) if row[2] not in doubted}
        dealt = connection.execute(asked).all()
    right: dict[str, list[tuple[str, bool]]] = {}
    pairs = []
    for (arm, client, _), (answered, label, shadowed) in latest.items():
        right.setdefault(arm, []).append((client or "", answered == label))
        if shadowed is not None:
            pairs.append((answered == label, shadowed == label))
    clients: dict[str, set[str]] = {}
    for arm, client in dealt:
        clients.setdefault(arm, set()).add(client or "")
    return Outcomes(right, pairs, clients)
