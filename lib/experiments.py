"""Champion against challenger on live traffic: who gets which, what labels say so far, and when it is over.

A client is dealt to an arm by a hash of its key, so it keeps its arm through restarts and in every process. In shadow
both models answer every image and the client is told the champion's answer.
"""

import hashlib
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from math import isnan
from time import time
from typing import Literal

from lib import registry
from lib.errors import ArtifactError, ParameterError
from lib.estimates import Estimate
from lib.production import Outcomes, read_outcomes
from lib.sequential import SHARE_LEVEL, Tally, difference, paired_difference, planned_labels, share_evidence, tally

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
MODES = ("split", "shadow")
LEAST_EFFECT = 0.001
DAY = 24 * 3600.0
State = Literal["promote", "keep", "wait", "unbalanced"]


@dataclass(frozen=True)
class Experiment:
    """A challenger's trial.

    Parameters
    ----------
    id : str
        Deals the clients: another id deals them anew.
    champion, challenger : str
        Versions.
    mode : {"split", "shadow"}
    share : float
        Of the clients that the challenger answers; 0 in shadow.
    effect : float
        Difference of accuracy that one wants to find, above 0.
    started, expires : float
        Seconds since 1970.
    """

    id: str
    champion: str
    challenger: str
    mode: str
    share: float
    effect: float
    started: float
    expires: float

    def arm(self, client: str) -> str:
        """CHAMPION or CHALLENGER, for the key of a client; the same whenever it asks."""
        digest = hashlib.sha256(f"{self.id} {client}".encode()).digest()
        return CHALLENGER if int.from_bytes(digest[:8], "big") / 2**64 < self.share else CHAMPION


@dataclass(frozen=True)
class Verdict:
    """What labels say of an experiment so far.

    Parameters
    ----------
    state : {"promote", "keep", "wait", "unbalanced"}
        What to do: promote the challenger, keep the champion, wait for more labels, or find out why clients were not
        dealt as they should be.
    text : str
        The same in a sentence.
    difference : Estimate
        Accuracy of the challenger less that of the champion, with its always-valid interval; nan of too few labels.
    champion, challenger : Tally
    n_clients : tuple of int
        Clients of the champion and of the challenger.
    labels_needed : int
        About so many more until the effect would be found.
    """

    state: State
    text: str
    difference: Estimate
    champion: Tally
    challenger: Tally
    n_clients: tuple[int, int]
    labels_needed: int

    def to_json(self) -> dict:
        """Plain values; a difference that is not known yet is null."""
        value = None if isnan(self.difference.value) else self.difference.to_json()
        arms = {
            name: {"labels": tally.n, "right": tally.right, "clients": clients}
            for name, tally, clients in zip(
                (CHAMPION, CHALLENGER), (self.champion, self.challenger), self.n_clients, strict=True
            )
        }
        return {"state": self.state, "text": self.text, "difference": value, **arms,
                "labels_needed": self.labels_needed}  # fmt: skip


def running(task: str, clock: Callable[[], float] = time) -> Experiment | None:
    """The experiment of a task; None where there is none or it has expired. Raises ArtifactError if it is damaged."""
    found = registry.deployment(task)["experiment"]
    if found is None:
        return None
    try:
        experiment = Experiment(**found)
    except TypeError as error:
        raise ArtifactError(f"The experiment of task {task!r} is damaged ({error}); end it and begin anew.") from None
    return experiment if clock() < experiment.expires else None


def start(
    task: str, challenger: str, *, mode: str = "split", share: float = 0.5, days: float = 14.0, effect: float = 0.05,
    by: str = "", clock: Callable[[], float] = time,
) -> Experiment:  # fmt: skip
    """Let a challenger take part in a task's traffic. With another share, a running one's clients stay where they can.

    Raises
    ------
    ParameterError
        For values that make no experiment.
    ArtifactError
        If there is no champion, or the challenger is missing, damaged, not evaluated, or the champion itself.
    LockedError
        If another process is changing what serves.
    """
    if mode not in MODES:
        raise ParameterError(f"mode must be {' or '.join(MODES)}, not {mode!r}.")
    if mode == "split" and not 0 < share < 1:
        raise ParameterError(f"share must lie between 0 and 1, not at {share:g}; the rest is the champion's.")
    if not LEAST_EFFECT <= effect < 1 or not 0 < days <= 365:
        raise ParameterError(
            f"effect must lie between {LEAST_EFFECT:g} and 1 and days be at most 365, not {effect:g} and {days:g}."
        )
    champion = registry.champion(task).name
    if challenger == champion:
        raise ArtifactError(f"Version {challenger} is the champion itself; name another one as challenger.")
    before, now = running(task, clock), clock()
    same = before is not None and (before.champion, before.challenger) == (champion, challenger)
    id = before.id if same else f"{challenger} {now:.0f}"
    share = share if mode == "split" else 0.0
    experiment = Experiment(id, champion, challenger, mode, share, effect, now, now + days * DAY)
    registry.begin_experiment(task, challenger, share, asdict(experiment), by=by)
    return experiment


def judge(experiment: Experiment, outcomes: Outcomes, accuracy: float) -> Verdict:
    """What the labels say so far.

    Parameters
    ----------
    experiment : Experiment
    outcomes : Outcomes
        Since it started.
    accuracy : float
        Expected of the champion, to say how many labels are needed.
    """
    if experiment.mode == "shadow":
        pairs = outcomes.pairs
        first, second = (tally([(1, int(pair[place])) for pair in pairs]) for place in (0, 1))
        gap = _of_pairs(pairs, experiment.effect)
        planned, known = planned_labels(accuracy, experiment.effect) // 2, len(pairs)
    else:
        first, second = (_tally(outcomes, arm) for arm in (CHAMPION, CHALLENGER))
        gap = difference(first, second, experiment.effect)
        planned, known = planned_labels(accuracy, experiment.effect, experiment.share), first.n + second.n
    clients = dealt(experiment, outcomes)
    needed = max(0, planned - known)
    state = _state(experiment, gap, clients, needed)
    return Verdict(state, _told(state, experiment, gap, needed), gap, first, second, clients, needed)


def running_difference(outcomes: Outcomes, experiment: Experiment, n_points: int = 60) -> list[dict[str, float]]:
    """The difference as it stood when a growing share of the labels had come: n, value, low, high a row."""
    rows = []
    for share in (point / n_points for point in range(1, n_points + 1)):
        if experiment.mode == "shadow":
            pairs = outcomes.pairs[: int(share * len(outcomes.pairs))]
            gap, n = _of_pairs(pairs, experiment.effect), len(pairs)
        else:
            right = {arm: answers[: int(share * len(answers))] for arm, answers in outcomes.right.items()}
            first, second = (_tally(Outcomes(right), arm) for arm in (CHAMPION, CHALLENGER))
            gap, n = difference(first, second, experiment.effect), first.n + second.n
        if not isnan(gap.value):
            rows.append({"n": n, **gap.to_json()})
    return rows


def _of_pairs(pairs: list[tuple[bool, bool]], effect: float) -> Estimate:
    """`paired_difference` of (champion right, challenger right)."""
    lost = sum(one and not other for one, other in pairs)
    won = sum(other and not one for one, other in pairs)
    return paired_difference(len(pairs), lost, won, effect)


def _tally(outcomes: Outcomes, arm: str) -> Tally:
    """Labels of one arm."""
    by_client: dict[str, tuple[int, int]] = {}
    for client, right in outcomes.right.get(arm, []):
        n, n_right = by_client.get(client, (0, 0))
        by_client[client] = (n + 1, n_right + right)
    return tally(list(by_client.values()))


def dealt(experiment: Experiment, outcomes: Outcomes) -> tuple[int, int]:
    """Clients that champion and challenger have answered.

    Those of another arm than the hash deals them to came while the challenger was being loaded; they do not count.
    """
    first, second = (
        sum(experiment.arm(client) == arm for client in outcomes.clients.get(arm, ())) for arm in (CHAMPION, CHALLENGER)
    )
    return first, second


def _state(experiment: Experiment, gap: Estimate, clients: tuple[int, ...], needed: int) -> State:
    """What to do."""
    if experiment.mode == "split" and share_evidence(*clients, experiment.share) >= 1 / SHARE_LEVEL:
        return "unbalanced"
    if gap.low > 0:
        return "promote"
    # The champion also stays where the planned labels are there and the effect is ruled out.
    return "keep" if gap.high < 0 or (not needed and gap.high < experiment.effect) else "wait"


def _told(state: State, experiment: Experiment, gap: Estimate, needed: int) -> str:
    """The verdict in a sentence."""
    told = "too few labels to say anything" if isnan(gap.value) else f"challenger against champion {gap.points()}"
    more = f"about {needed:,} more labels are needed to find {100 * experiment.effect:g} points"
    return {
        "promote": f"The challenger is better: {told}.",
        "keep": f"The champion stays: {told}.",
        "wait": f"Not decided yet: {told}; {more if needed else 'the next labels will tell'}.",
        "unbalanced": "Clients were not dealt as the share says, so the arms cannot be compared: find out why first.",
    }[state]


def conclude(
    task: str, url: str = "", *, approval: bool = True, doubted: Set[str] = frozenset(),
    clock: Callable[[], float] = time,
) -> str:  # fmt: skip
    """End an experiment that has expired or, without a person's approval, that is decided; what was done, or "".

    Raises
    ------
    LogError
        If the log cannot be read.
    ArtifactError, LockedError
        If what serves cannot be changed.
    """
    known, experiment = registry.deployment(task)["experiment"], running(task, clock)
    if known is None:
        return ""
    if experiment is None:
        registry.end_experiment(task, by="lib.experiments", why="it expired undecided")
        return "the experiment expired undecided; the challenger waits"
    found = verdict(task, experiment, url, doubted)
    if approval or found.state not in ("promote", "keep"):
        return ""
    same = {"experiment": known}
    if found.state == "promote":
        registry.promote(task, experiment.challenger, by="lib.experiments", why=found.text, expected=same)
    else:
        registry.challenge(task, None, by="lib.experiments", why=found.text, expected=same)
    return found.text


def verdict(task: str, experiment: Experiment, url: str = "", doubted: Set[str] = frozenset()) -> Verdict:
    """`judge` an experiment by the task's production log, without labels of doubted images; raises LogError."""
    outcomes = read_outcomes(task, url, experiment.started, doubted)
    test = registry.verify(task, experiment.champion).metrics["test"]
    return judge(experiment, outcomes, test["accuracy"]["value"])
