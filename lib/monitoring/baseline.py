"""What windows are held against: images that the champion was made from, or a span of production that was in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.random import default_rng

from lib import registry
from lib.drift import LEAST, Space, fit_space
from lib.errors import ArtifactError, ParameterError
from lib.monitoring.windows import Span, read_window
from lib.prediction import Predictor
from lib.production import ImageStore
from lib.production.reading import read_vectors, stacked
from lib.storage import sha256_json
from lib.tasks import TaskEmbeddings, load_task

DATA = "data"
DECISIONS = ("accepted", "unsure", "unknown")
SPACE_IMAGES, UNSEEN_IMAGES, SEEN_IMAGES = 2000, 2000, 2000  # at most; drawn where there are more


@dataclass(frozen=True)
class Views:
    """What the tests look at of n images.

    Parameters
    ----------
    points : ndarray of shape (n, k), float32
        In the baseline's space.
    codes : ndarray of shape (n,), int
        Answered classes.
    confidence : ndarray of shape (n,), float
        Largest probability.
    decisions : ndarray of shape (n,), int
        Places in DECISIONS.
    """

    points: np.ndarray
    codes: np.ndarray
    confidence: np.ndarray
    decisions: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def rows(self, places: np.ndarray) -> "Views":
        """Those of some images."""
        return Views(self.points[places], self.codes[places], self.confidence[places], self.decisions[places])


Files = tuple[tuple[Path, str], ...]  # paths, and the SHA-256 of what is there


@dataclass(frozen=True)
class Seen:
    """Images that the champion was trained on.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    labels : ndarray of shape (n,), int
    files : tuple of (Path, str)
        Of the first of them; those that updates added have none.
    """

    vectors: np.ndarray
    labels: np.ndarray
    files: Files


@dataclass(frozen=True)
class Baseline:
    """What windows are held against.

    The space is fitted on a third of the training images, which are compared with nothing. Vectors are compared with
    those of all other images; answers only with answers to images that the champion was not trained on, for of its own
    images it is surer than of any window's.

    Parameters
    ----------
    predictor : Predictor
        The champion. Windows are compared by its answers, whichever version gave them.
    space : Space
    unseen : Views
        Of m images that it was not trained on.
    unseen_labels : ndarray of shape (m,), int
        Codes into the champion's classes.
    seen : Seen
        Images that it was trained on, those of the space left out.
    files : tuple of (Path, str), length m
        Where the unseen images lie, and their SHA-256.
    trained : frozenset of str
        SHA-256 of images that it was trained on.
    told : str
        What this is, in words.
    taught : frozenset of int
        Classes that updates have added: the task's images have none of them to compare with, so images that are
        answered so are left out.
    """

    predictor: Predictor
    space: Space
    unseen: Views
    unseen_labels: np.ndarray
    seen: Seen
    files: Files
    trained: frozenset[str]
    told: str
    taught: frozenset[int] = frozenset()

    @property
    def points(self) -> np.ndarray:
        """Of all reference images, the unseen ones first; (m + n, k) float32."""
        return np.concatenate([self.unseen.points, self.space(self.seen.vectors)])

    @property
    def labels(self) -> np.ndarray:
        """Classes of these, (m + n,) int."""
        return np.concatenate([self.unseen_labels, self.seen.labels])

    @property
    def fingerprint(self) -> str:
        """Changes with the champion and with what it is held against."""
        sums = [float(self.seen.vectors.sum()), float(self.unseen.points.sum()), float(self.unseen.confidence.sum())]
        return sha256_json([self.predictor.version.name, self.told, *sums])[:12]

    @property
    def confusion(self) -> np.ndarray:
        """Unseen images by label (rows) and answer (columns), counts."""
        counts = np.zeros((len(self.predictor.classes),) * 2, dtype=int)
        np.add.at(counts, (self.unseen_labels, self.unseen.codes), 1)
        return counts

    def views(self, vectors: np.ndarray) -> Views:
        """What the tests look at of images with these vectors, (n, dim) float32."""
        return look(self.predictor, self.space, vectors)


def look(predictor: Predictor, space: Space, vectors: np.ndarray) -> Views:
    """Answers of a predictor to vectors, (n, dim) float32, and where they lie in a space."""
    return answered(predictor, space, vectors, predictor.proba(vectors))


def answered(
    predictor: Predictor, space: Space, vectors: np.ndarray, proba: np.ndarray, distances: np.ndarray | None = None
) -> Views:  # fmt: skip
    """Views of images with these probabilities, (n, n_classes).

    `distances`, (n,), to the training images are those of the predictor's reference where none are given.
    """
    if distances is None:
        distances = predictor.reference.distances(vectors) if predictor.reference else np.zeros(len(vectors))
    confidence, thresholds = proba.max(axis=1), predictor.thresholds
    told = ["accepted"] * len(vectors)
    if thresholds:
        pairs = zip(confidence.tolist(), distances.tolist(), strict=True)
        told = [thresholds.decide(probability, distance) for probability, distance in pairs]
    decisions = np.array([DECISIONS.index(decision) for decision in told], dtype=int)
    return Views(space(vectors), proba.argmax(axis=1), confidence, decisions)


def make_baseline(task: str, reference: str = DATA, url: str = "", *, seed: int = 0) -> Baseline:
    """The champion of a task with what its windows are held against.

    Parameters
    ----------
    task : str
    reference : str
        "data" for the task's own images with what updates have learned since; or a span of production, as
        2026-11-01/2026-11-08 (dates or times in UTC, the end not included), which is then how things should be.
    url : str
        Database of the log.
    seed : int

    Raises
    ------
    ParameterError
        For another reference, or a span with too few images.
    ArtifactError
        If nothing serves, or it was trained on other data than the task has now.
    """
    predictor = Predictor.from_version(registry.champion(task))
    train, *others = (load_task(task, [split]) for split in ("train", "val", "test"))
    generator, vectors = default_rng(seed), train.vectors_for(predictor)
    order = generator.permutation(len(vectors))
    n_space = min(SPACE_IMAGES, max(2, len(order) // 3))
    space, added = fit_space(vectors[order[:n_space]]), predictor.version.additions
    added = added[~added["held_back"].astype(bool)]
    trained = frozenset({*train.manifest["sha256"], *added["sha256"]})
    if reference != DATA:
        return _of_production(task, predictor, space, reference, url, trained, seed)
    if predictor.card["data"]["hash"] != train.facts["data_hash"]:
        raise ArtifactError(
            f"Champion {predictor.version.name} was trained on other data or another split than task {task!r} has now, "
            "so what it was not trained on is not known; train it anew, or give a span of production as reference."
        )
    taught = frozenset(code for code, label in enumerate(predictor.classes) if label not in train.classes)
    drawn, files, known = order[n_space:][:SEEN_IMAGES], _files(train), added[added["label"].isin(train.classes)]
    seen = Seen(
        np.concatenate([vectors[drawn], stacked(known["vector"]).reshape(-1, vectors.shape[1])]),
        _codes([*train.manifest["label"].iloc[drawn], *known["label"]], predictor),
        tuple(files[place] for place in drawn),
    )
    unseen = np.concatenate([part.vectors_for(predictor) for part in others])
    unseen_labels = _codes([label for part in others for label in part.manifest["label"]], predictor)
    unseen_files = [file for part in others for file in _files(part)]
    kept = np.sort(generator.permutation(len(unseen))[:UNSEEN_IMAGES])
    told = f"{len(kept):,} images of the task that it was not trained on, and vectors of {len(seen.labels):,} others"
    views, own_files = look(predictor, space, unseen[kept]), tuple(unseen_files[place] for place in kept)
    return Baseline(predictor, space, views, unseen_labels[kept], seen, own_files, trained, told, taught)


def _of_production(
    task: str, predictor: Predictor, space: Space, reference: str, url: str, trained: frozenset[str], seed: int
) -> Baseline:
    """The baseline of a span of production; what is answered stands for the labels that nobody gave."""
    backbone = predictor.card["backbone"]["fingerprint"]
    sample = read_window(task, url, read_span(reference), backbone, trained, seed=seed, most=UNSEEN_IMAGES).sample
    if len(sample) < 2 * LEAST:
        raise ParameterError(f"Reference {reference} has {len(sample)} usable images; take a longer span.")
    vectors, store = read_vectors(task, url, list(sample["id"])), ImageStore.of(task)
    views = look(predictor, space, vectors)
    files = tuple((store.path(sha256), sha256) for sha256 in sample["sha256"])
    told = f"{len(sample):,} images of production, {reference}"
    none = Seen(vectors[:0], views.codes[:0], ())
    return Baseline(predictor, space, views, views.codes, none, files, trained, told)


def _files(part: TaskEmbeddings) -> list[tuple[Path, str]]:
    """Where the images of a part lie, and their SHA-256."""
    return [(part.root / row.path, row.sha256) for row in part.manifest.itertuples()]


def read_span(text: str) -> Span:
    """Two moments in UTC with / between them; raises ParameterError."""
    try:
        start, end = (datetime.fromisoformat(part).replace(tzinfo=UTC).timestamp() for part in text.split("/"))
    except ValueError:
        start, end = 0.0, 0.0
    if not start < end:
        raise ParameterError(f"reference must be {DATA} or a span as 2026-11-01/2026-11-08, not {text!r}.")
    return Span(start, end)


def _codes(labels: Sequence[str], predictor: Predictor) -> np.ndarray:
    """Labels of the task's images as places in the champion's classes; raises ArtifactError where it lacks one."""
    places = {label: code for code, label in enumerate(predictor.classes)}
    missing = sorted(set(labels) - set(places))
    if missing:
        raise ArtifactError(f"The champion does not know {', '.join(missing)}, which the task's data have; train it.")
    return np.array([places[label] for label in labels], dtype=int)
