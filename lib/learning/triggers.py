"""When an update is due: enough new labels, an accuracy that has fallen, or an alarm of the monitoring."""

from dataclasses import dataclass

import pandas as pd

from lib.labels import BELIEVED
from lib.learning.material import Material
from lib.metrics import proportion

RECENT = 200  # latest believed labels of the champion's own answers, by which its accuracy is watched


@dataclass(frozen=True)
class Triggers:
    """What sets an update off.

    Parameters
    ----------
    labels : int
        New believed labels since the last update.
    least_labels : int
        Fewer than these do only where they make a new class.
    cooldown : float, seconds
        Between two updates.
    """

    labels: int = 50
    least_labels: int = 10
    cooldown: float = 3600.0


def due(material: Material, state: dict, triggers: Triggers, now: float, *, alarm: bool = False) -> str:
    """Why an update is due now; "" if it is not.

    Parameters
    ----------
    material : Material
    state : dict
        What `lib.learning.worker` remembers: `time` and `number` (of the newest label then) of the last update.
    triggers : Triggers
    now : float
        Seconds since 1970.
    alarm : bool
        Whether the monitoring says that what is sent has changed.
    """
    fresh = new_labels(material, state)
    if not len(fresh) or now < state.get("time", 0.0) + triggers.cooldown:
        return ""
    if material.new_classes:
        return f"new class {', '.join(material.new_classes)}"
    if len(fresh) < triggers.least_labels:
        return ""
    if len(fresh) >= triggers.labels:
        return f"{len(fresh)} new labels"
    if told := fallen_accuracy(material):
        return told
    return "drift alarm" if alarm else ""


def new_labels(material: Material, state: dict) -> pd.DataFrame:
    """Believed labels that the last update did not know, or that a person decided otherwise since."""
    audited, newest = material.audited, state.get("number", 0)
    if len(material.given) and newest > material.given["number"].max():
        newest = 0  # the log was begun anew
    reviewed = reviews_since(material, state)
    return audited[(audited["state"] == BELIEVED) & ((audited["number"] > newest) | audited["sha256"].isin(reviewed))]


def reviews_since(material: Material, state: dict) -> set[str]:
    """SHA-256 of images of which a person decided something else since the last update."""
    known = state.get("reviews", {})
    return {sha256 for sha256, label in material.reviews.items() if known.get(sha256, "") != label}


def fallen_accuracy(material: Material) -> str:
    """How far the champion's labelled accuracy lies below that of the test part, in words; "" where not clearly.

    People label what looks wrong to them, so this tells of a change, not of the accuracy itself.
    """
    audited = material.audited
    own = audited[(audited["state"] == BELIEVED) & (audited["version"] == material.champion.name)].tail(RECENT)
    if not len(own):
        return ""
    labelled = proportion(int((own["answered"] == own["label"]).sum()), len(own))
    tested = material.champion.metrics["test"]["accuracy"]
    if labelled.high >= tested["low"]:
        return ""
    return f"accuracy {labelled} on {len(own)} labels, {tested['value']:.3f} on the test images"
