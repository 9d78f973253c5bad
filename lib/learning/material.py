"""What there is to learn from: the champion's own training images, and the labels that people gave since."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lib import registry
from lib.errors import ArtifactError
from lib.labels import BELIEVED, LEFT_OUT, Rules, audit, read_reviews
from lib.production import default_url
from lib.production.reading import read_labels, stacked
from lib.splits import unit_interval
from lib.storage import read_table
from lib.tasks import TaskEmbeddings, load_task

ADDITION_COLUMNS = ["sha256", "label", "kept", "held_back", "vector"]
OTHER_BACKBONE = "its vector is of another backbone"
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
        ADDITION_COLUMNS: images that are to be learned besides the training part, those held back among them; those
        of the champion's own update too, for the log does not keep them for ever.
    classes : list of str
        The champion's, then new ones.
    """

    champion: registry.Version
    train: TaskEmbeddings
    val: TaskEmbeddings
    test: TaskEmbeddings
    given: pd.DataFrame
    audited: pd.DataFrame
    additions: pd.DataFrame
    classes: list[str]

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


def gather(task: str, sources: Sources) -> Material:
    """Collect what the champion of a task could learn from.

    Raises
    ------
    ArtifactError
        If nothing serves, or the task's data or backbone are no longer those of the champion.
    LogError
        If the log cannot be read.
    DataError
        If reviews.csv cannot be followed.
    """
    champion = registry.champion(task)
    train, val, test = (load_task(task, [split]) for split in ("train", "val", "test"))
    check_same(champion, train)
    known = list(champion.card["classes"])
    given = read_labels(sources.url or default_url(task), task)
    trained = dict(zip(train.manifest["sha256"], train.manifest["label"], strict=True))
    evaluated = {*val.manifest["sha256"], *test.manifest["sha256"]}
    audited = audit(given, set(known), trained, evaluated, read_reviews(task), sources.rules)
    audited = _of_this_backbone(audited, champion, task)
    taught = _merged(_earlier(champion), audited, trained, sources.held_back)
    added, waiting = _new_classes(taught, known, sources.new_class_images)
    audited = _left_out(audited, audited["label"].isin(waiting), WAITING)
    return Material(
        champion, train, val, test, given, audited, taught[~taught["label"].isin(waiting)], [*known, *added]
    )  # fmt: skip


def check_same(champion: registry.Version, data: TaskEmbeddings) -> None:
    """Refuse to update a champion whose training data or backbone the task no longer has; raises ArtifactError."""
    card, facts = champion.card, data.facts
    if card["data"]["hash"] != facts["data_hash"]:
        changed = "was trained on other data or another split"
    elif card["backbone"]["fingerprint"] != facts["backbone"]["fingerprint"]:
        changed = "uses another backbone"
    else:
        return
    raise ArtifactError(
        f"Champion {champion.name} {changed} than task {facts['task']!r} has now; train it anew with "
        f"./run_pipeline.sh training evaluation --task {facts['task']}."
    )


def _of_this_backbone(audited: pd.DataFrame, champion: registry.Version, task: str) -> pd.DataFrame:
    """Leave out images whose vectors another backbone than the champion's computed."""
    wanted = champion.card["backbone"]["fingerprint"]
    others = {name for name in set(audited["version"]) if _fingerprint(task, name, wanted) != wanted}
    n_bytes = 4 * champion.card["backbone"]["dim"]
    foreign = audited["version"].isin(others) | (audited["vector"].map(len) != n_bytes)
    return _left_out(audited, foreign, OTHER_BACKBONE)


def _fingerprint(task: str, name: str, wanted: str) -> str:
    """Of a version's backbone. One that is kept no longer is taken to have had the champion's."""
    if name not in registry.versions(task):
        return wanted
    try:
        return registry.verify(task, name).card["backbone"]["fingerprint"]
    except ArtifactError:
        return wanted


def _left_out(audited: pd.DataFrame, rows: pd.Series, reason: str) -> pd.DataFrame:
    """Believed rows among these become left out."""
    rows = rows & (audited["state"] == BELIEVED)
    return audited.assign(
        state=audited["state"].where(~rows, LEFT_OUT), reason=audited["reason"].where(~rows, reason)
    )  # fmt: skip


def _earlier(champion: registry.Version) -> pd.DataFrame:
    """What the champion was trained on besides the training part."""
    path = champion.folder / registry.ADDITIONS_FILE
    return read_table(path) if path.exists() else pd.DataFrame(columns=ADDITION_COLUMNS)


def _merged(
    earlier: pd.DataFrame, audited: pd.DataFrame, trained: Mapping[str, str], held_back: float
) -> pd.DataFrame:  # fmt: skip
    """Additions: earlier ones that nobody doubts since, and those believed now."""
    believed = audited[(audited["state"] == BELIEVED) & ~audited["sha256"].isin(set(trained))]
    still = earlier[~earlier["sha256"].isin(set(audited["sha256"]))]
    both = pd.concat([still, believed], ignore_index=True) if len(still) else believed.reset_index(drop=True)
    sides = [unit_interval(f"held back {sha256}", 0) < held_back for sha256 in both["sha256"]]
    return both.assign(held_back=np.array(sides, dtype=bool))[ADDITION_COLUMNS]


def _new_classes(taught: pd.DataFrame, known: list[str], n_images: int) -> tuple[list[str], list[str]]:
    """Labels beyond the known ones: those with enough images, two of them to be trained on, and those that wait."""
    unknown = taught[~taught["label"].isin(known)]
    counts = unknown.groupby("label")["held_back"].agg(n="size", held="sum")
    enough = (counts["n"] >= n_images) & (counts["n"] - counts["held"] >= 2)
    return sorted(counts.index[enough]), sorted(counts.index[~enough])


def vectors_of(additions: pd.DataFrame, dim: int) -> np.ndarray:
    """(n, dim), float32."""
    return stacked(additions["vector"]) if len(additions) else np.empty((0, dim), dtype=np.float32)
