"""What there is to learn from: the champion's own training images, and the labels that people gave since."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from lib import registry
from lib.errors import ArtifactError, ChangedError
from lib.labels import BELIEVED, LEFT_OUT, Rules, audit, read_reviews
from lib.production.reading import read_labels, stacked
from lib.splits import unit_interval
from lib.tasks import TaskEmbeddings, load_task

OTHER_BACKBONE = "its vector is of another backbone"
NEAR_COPY = "it is a near copy of a validation or test image"
# Cosine of two images' vectors from which on they are copies. Of 1,500 clothes, all different, none reaches 0.97 with
# another; photos encoded anew in good quality (JPEG, 70 and more) have 0.993 and more, much smaller ones less.
NEAR = 0.99
ROWS = 1000  # that are compared at a time
WAITING = "its class has too few images yet"


@dataclass(frozen=True)
class Sources:
    """Where labels come from, and which of them are learned.

    Parameters
    ----------
    url : str
        Database of the production log; "" for the task's own SQLite file.
    rules : Rules
        What makes a label suspicious.
    new_class_images : int
        That a label which is no class needs before it becomes one.
    held_back : float
        Share of the images that is never trained on; a hash of the content decides, so an image never changes sides.
    """

    url: str = ""
    rules: Rules = field(default_factory=Rules)
    new_class_images: int = 5
    held_back: float = 0.2


@dataclass(frozen=True)
class Material:
    """What an update of a champion would be made from.

    Parameters
    ----------
    champion : registry.Version
    train, val, test : TaskEmbeddings
        The task's own parts.
    given : DataFrame
        Every label that was given, `lib.production.reading.LABEL_COLUMNS`.
    audited : DataFrame
        One row an image, `lib.labels.COLUMNS`.
    additions : DataFrame
        registry.ADDITION_COLUMNS: images that are to be learned besides the training part, those held back among them;
        those of the champion's own update too, for the log does not keep them for ever.
    classes : list of str
        The champion's, then new ones.
    reviews : mapping of SHA-256 to label or None
        From `lib.labels.read_reviews`.
    """

    champion: registry.Version
    train: TaskEmbeddings
    val: TaskEmbeddings
    test: TaskEmbeddings
    given: pd.DataFrame
    audited: pd.DataFrame
    additions: pd.DataFrame
    classes: list[str]
    reviews: Mapping[str, str | None]

    @property
    def new_classes(self) -> list[str]:
        """Those that the champion does not know."""
        return self.classes[len(self.champion.card["classes"]) :]

    @property
    def learned(self) -> pd.DataFrame:
        """Additions that are trained on."""
        return self.additions[~self.additions["held_back"]]

    @property
    def held_back(self) -> pd.DataFrame:
        """Additions that never are: they judge."""
        return self.additions[self.additions["held_back"]]

    def codes(self, labels: pd.Series) -> np.ndarray:
        """Labels as places in `classes`."""
        places = {label: code for code, label in enumerate(self.classes)}
        return labels.map(places).to_numpy(dtype=int)


def gather(task: str, sources: Sources, *, anew: bool = False) -> Material:
    """Collect what the champion of a task could learn from.

    Parameters
    ----------
    task : str
    sources : Sources
    anew : bool
        For a training from scratch, which may have other data and another backbone than the champion; vectors are not
        looked at.

    Raises
    ------
    ChangedError
        If the task's data or backbone are no longer those of the champion.
    ArtifactError
        If nothing serves.
    LogError
        If the log cannot be read.
    DataError
        If reviews.csv cannot be followed.
    """
    champion = registry.champion(task)
    train, val, test = (load_task(task, [split]) for split in ("train", "val", "test"))
    if not anew:
        check_same(champion, train)
    known = list(champion.card["classes"])
    given = read_labels(task, sources.url)
    trained = dict(zip(train.manifest["sha256"], train.manifest["label"], strict=True))
    evaluated = {*val.manifest["sha256"], *test.manifest["sha256"]}
    reviews = read_reviews(task)
    audited = audit(given, set(known), trained, evaluated, reviews, sources.rules)
    if not anew:
        audited = _of_this_backbone(audited, champion, task)
        judges = np.concatenate([val.vectors, test.vectors])
        audited = _left_out(audited, _is_near(audited, judges), NEAR_COPY)
    taught = _merged(champion.additions, audited, reviews, trained, sources.held_back)
    if not anew:
        taught = taught.assign(held_back=taught["held_back"].to_numpy()[_first_alike(taught)])
    added, waiting = _new_classes(taught, known, sources.new_class_images)
    audited = _left_out(audited, audited["label"].isin(waiting), WAITING)
    return Material(
        champion, train, val, test, given, audited, taught[~taught["label"].isin(waiting)], [*known, *added], reviews
    )  # fmt: skip


def check_same(champion: registry.Version, data: TaskEmbeddings) -> None:
    """Refuse to update a champion whose training data or backbone the task no longer has; raises ChangedError."""
    card, facts = champion.card, data.facts
    if card["data"]["hash"] != facts["data_hash"]:
        changed = "was trained on other data or another split"
    elif card["backbone"]["fingerprint"] != facts["backbone"]["fingerprint"]:
        changed = "uses another backbone"
    else:
        return
    raise ChangedError(
        f"Champion {champion.name} {changed} than task {facts['task']!r} has now; train it anew, with production's "
        f"images, by python -m lib.learning --task {facts['task']} --retrain."
    )


def _of_this_backbone(audited: pd.DataFrame, champion: registry.Version, task: str) -> pd.DataFrame:
    """Leave out images whose vectors another backbone than the champion's computed."""
    wanted, n_bytes = champion.card["backbone"]["fingerprint"], 4 * champion.card["backbone"]["dim"]
    untold = audited["backbone"].isna()  # logged by an earlier release: the version's card tells, while it is kept
    told = audited["backbone"].mask(untold, audited["version"].map(_fingerprints(task, audited.loc[untold, "version"])))
    foreign = (told != wanted) | (audited["vector"].map(len) != n_bytes)
    return _left_out(audited, foreign, OTHER_BACKBONE)


def _fingerprints(task: str, names: Iterable[str]) -> dict[str, str]:
    """Of the backbones of those versions that are whole."""
    found = {}
    for name in set(names) & set(registry.versions(task)):
        with contextlib.suppress(ArtifactError):
            found[name] = registry.verify(task, name).card["backbone"]["fingerprint"]
    return found


def _is_near(audited: pd.DataFrame, judges: np.ndarray) -> pd.Series:
    """Whether an image is believed and nearly the same as one of these, (m, dim) float32."""
    believed = np.flatnonzero(audited["state"] == BELIEVED)
    near = np.zeros(len(audited), dtype=bool)
    if len(believed) and len(judges):
        own, others = normalize(stacked(audited["vector"].iloc[believed])), normalize(judges)
        for rows in gen_batches(len(own), ROWS):
            near[believed[rows]] = (own[rows] @ others.T).max(axis=1) >= NEAR
    return pd.Series(near, index=audited.index)


def _left_out(audited: pd.DataFrame, rows: pd.Series, reason: str) -> pd.DataFrame:
    """Believed rows among these become left out."""
    rows = rows & (audited["state"] == BELIEVED)
    return audited.assign(
        state=audited["state"].where(~rows, LEFT_OUT), reason=audited["reason"].where(~rows, reason)
    )  # fmt: skip


def _merged(
    earlier: pd.DataFrame, audited: pd.DataFrame, reviews: Mapping[str, str | None], trained: Mapping[str, str],
    held_back: float,
) -> pd.DataFrame:  # fmt: skip
    """Additions: earlier ones that nobody doubts since, and those believed now.

    What a person decided counts for earlier ones also when the log has them no longer. Each image keeps the side that
    it once had.
    """
    believed = audited[(audited["state"] == BELIEVED) & ~audited["sha256"].isin(set(trained))]
    gone = {sha256 for sha256, label in reviews.items() if label is None}
    still = earlier[~earlier["sha256"].isin(set(audited["sha256"]) | gone)]
    said = still["sha256"].map(reviews)
    still = still.assign(label=said.where(said.notna(), still["label"]))
    columns = [name for name in registry.ADDITION_COLUMNS if name != "held_back"]
    both = pd.concat([still[columns], believed[columns]], ignore_index=True) if len(still) else believed[columns]
    both = both.reset_index(drop=True)
    known = dict(zip(earlier["sha256"], earlier["held_back"], strict=True))
    sides = [
        known.get(sha256, unit_interval(f"held back {sha256}", 0) < held_back) for sha256 in both["sha256"]
    ]  # fmt: skip
    return both.assign(held_back=np.array(sides, dtype=bool))[registry.ADDITION_COLUMNS]


def _first_alike(additions: pd.DataFrame) -> np.ndarray:
    """For each addition the place of the first one of its label that is nearly the same, perhaps its own; (n,) int.

    A near copy goes to the side of the image that it is like: else it would judge what it taught.
    """
    first = np.arange(len(additions))
    for places in additions.groupby("label").indices.values():
        own = normalize(stacked(additions["vector"].iloc[places]))
        for rows in gen_batches(len(own), ROWS):
            first[places[rows]] = places[(own[rows] @ own.T >= NEAR).argmax(axis=1)]
    return first


def _new_classes(taught: pd.DataFrame, known: list[str], n_images: int) -> tuple[list[str], list[str]]:
    """Labels beyond the known ones: those with enough images, two of them to be trained on, and those that wait."""
    unknown = taught[~taught["label"].isin(known)]
    counts = unknown.groupby("label")["held_back"].agg(n="size", held="sum")
    enough = (counts["n"] >= n_images) & (counts["n"] - counts["held"] >= 2)
    return sorted(counts.index[enough]), sorted(counts.index[~enough])


def vectors_of(additions: pd.DataFrame, dim: int) -> np.ndarray:
    """(n, dim), float32."""
    return stacked(additions["vector"]) if len(additions) else np.empty((0, dim), dtype=np.float32)
