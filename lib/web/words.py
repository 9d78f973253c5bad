"""An answer in words, for the page."""

from collections.abc import Sequence

from lib.prediction import Prediction

MAX_NAMED = 3  # classes that a sentence names


def percent(probability: float) -> str:
    """A probability as per cent; never 100 %, for nothing is certain."""
    if probability > 0.99:
        return "> 99 %"
    return "< 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def sentence(result: Prediction) -> str:
    """What the answer is, and whether to believe it."""
    if result.decision == "unknown":
        return "This looks like nothing I was trained on."
    if result.decision == "unsure":
        return f"Not sure: {'perhaps ' if len(result.label_set) == 1 else ''}{either(result.label_set)}"
    return result.label


def comment(result: Prediction) -> str:
    """What goes with the sentence: how sure, and what else it may be."""
    sure = percent(result.probability)
    if result.decision == "unknown":
        return f"If it has to be one of my classes: {either(result.label_set)} ({sure})."
    if result.decision == "unsure":
        return f"{result.label} comes first with {sure}, which is below what I answer for."
    if result.decision is None:
        return f"{sure} sure; when this model is to be doubted was never measured."
    more = f" It may also be {either(result.label_set[1:])}." if len(result.label_set) > 1 else ""
    return f"{sure} sure.{more}"


def either(labels: Sequence[str]) -> str:
    """Classes it may be: "shirt or coat"; of many only the first are named."""
    named, rest = list(labels), 0
    if len(labels) > MAX_NAMED + 1:
        named, rest = named[:MAX_NAMED], len(labels) - MAX_NAMED
    last = f"one of {rest} more" if rest else named.pop()
    return f"{', '.join(named)} or {last}" if named else last
