"""Whether two models differ and traffic is dealt as it should be, valid however often one looks. Pure: numbers only.

A test that is made for one look errs far more often than it says when it is looked at after every label. The interval
here holds at all times at once: Johari, Koomen, Pekelis and Walsh, Always Valid Inference (Operations Research 2022),
the mixture sequential probability ratio test with a normal mixture. The check of shares is the Bayes factor of Lindon
and Malek, Anytime-Valid Inference for Multinomial Count Data (2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, nan, sqrt

from scipy.special import betaln
from scipy.stats import norm

from lib.estimates import Estimate

LEVEL = 0.05
POWER = 0.8
SHARE_LEVEL = 0.01
LEAST_CLIENTS = 20  # of each arm: of fewer the variance of clusters is too uncertain
LEAST = 10  # labels of each arm before anything is said: before that the variance is a guess
PRIOR = 100.0  # requests that the expected shares weigh as much as


@dataclass(frozen=True)
class Tally:
    """What labels say of one arm.

    Parameters
    ----------
    n, right : int
        Labelled answers, and how many of them were right.
    n_clients : int
        Whose answers they are.
    variance : float
        Of the share that is right.
    """

    n: int
    right: int
    n_clients: int
    variance: float


def tally(by_client: Sequence[tuple[int, int]]) -> Tally:
    """The tally of clients with (labelled answers, right ones) each.

    Clients are dealt to arms, not answers, and one client's answers are alike: the variance is that of clusters, and
    never less than that of independent answers, whose share is pulled to the middle, so that a short lucky run is not
    taken as certain.
    """
    n, right, n_clients = sum(n for n, _ in by_client), sum(right for _, right in by_client), len(by_client)
    middle = (right + 1) / (n + 2)
    variance = middle * (1 - middle) / max(n, 1)
    if n_clients > 1:
        share = right / n
        spread = sum((own_right - own_n * share) ** 2 for own_n, own_right in by_client) / n**2
        variance = max(variance, spread * n_clients / (n_clients - 1))
    return Tally(n, right, n_clients, variance)


def difference(champion: Tally, challenger: Tally, effect: float) -> Estimate:
    """Accuracy of the challenger less that of the champion, with its always-valid 95 % interval.

    Parameters
    ----------
    champion, challenger : Tally
    effect : float
        The difference one wants to find, at which the interval is best.
    """
    if min(champion.n, challenger.n) < LEAST or min(champion.n_clients, challenger.n_clients) < LEAST_CLIENTS:
        return Estimate(nan, -1.0, 1.0)
    value = challenger.right / challenger.n - champion.right / champion.n
    return _around(value, half_width(champion.variance + challenger.variance, effect))


def paired_difference(n: int, only_champion: int, only_challenger: int, effect: float) -> Estimate:
    """The same where both answered the same n images: only those that one of them has right tell them apart."""
    if n < LEAST:
        return Estimate(nan, -1.0, 1.0)
    won, lost = ((count + 1) / (n + 3) for count in (only_challenger, only_champion))  # never 0, nor certain
    variance = (won + lost - (won - lost) ** 2) / n
    return _around((only_challenger - only_champion) / n, half_width(variance, effect))


def _around(value: float, half: float) -> Estimate:
    """A difference of accuracies with an interval within -1 to 1."""
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def half_width(variance: float, effect: float, level: float = LEVEL) -> float:
    """Half the width of the always-valid interval of an estimate with this variance (Johari et al. 2022)."""
    mixture = effect**2
    return sqrt(variance * (variance + mixture) / mixture * (2 * log(1 / level) + log((variance + mixture) / variance)))


def planned_labels(accuracy: float, effect: float, share: float = 0.5) -> int:
    """Labels of both arms together after which a difference of `effect` is found with a probability of POWER.

    Parameters
    ----------
    accuracy : float
        Of the champion.
    effect : float
        Above 0.
    share : float
        Of the labels that are the challenger's.
    """
    low, high = 2 * LEAST, 100_000_000
    better = min(accuracy + effect, 0.999)
    while low < high:
        n = (low + high) // 2
        variance = accuracy * (1 - accuracy) / (n * (1 - share)) + better * (1 - better) / (n * share)
        found = effect >= half_width(variance, effect) + norm.ppf(POWER) * sqrt(variance)
        low, high = (low, n) if found else (n + 1, high)
    return low


def share_evidence(n_champion: int, n_challenger: int, share: float) -> float:
    """How much counts of requests speak against the share that was set; an alarm at 1 / SHARE_LEVEL, however often.

    Parameters
    ----------
    n_champion, n_challenger : int
        Clients or requests of each arm.
    share : float
        The challenger's, above 0 and below 1.
    """
    a, b = PRIOR * share, PRIOR * (1 - share)
    evidence = betaln(a + n_challenger, b + n_champion) - betaln(a, b)
    evidence -= n_challenger * log(share) + n_champion * log(1 - share)
    return exp(evidence) if evidence < 700 else inf
