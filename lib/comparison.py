"""Two versions side by side: on the same test images, and by what labels from production say."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import registry
from lib.errors import ArtifactError
from lib.experiments import Experiment, judge, running
from lib.metrics import PairedComparison
from lib.prediction import Predictor
from lib.production import Outcomes, read_outcomes
from lib.tasks import TaskEmbeddings

Versions = tuple[registry.Version, registry.Version]


@dataclass(frozen=True)
class Answers:
    """What two versions answer to the same images.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        Codes into `classes`.
    codes : two ndarrays of shape (n,), int
        Answers of the first and of the second.
    classes : list of str
        Of both.
    """

    labels: np.ndarray
    codes: tuple[np.ndarray, np.ndarray]
    classes: list[str]

    def disagreements(self, test: TaskEmbeddings) -> pd.DataFrame:
        """Images that they answer differently: path, label, first, second; where one is right first."""
        rows = np.flatnonzero(self.codes[0] != self.codes[1])
        names = np.array(self.classes, dtype=object)
        decided = (self.codes[0] == self.labels) | (self.codes[1] == self.labels)
        table = pd.DataFrame({
            "path": test.manifest["path"].to_numpy()[rows], "label": names[self.labels[rows]],
            "first": names[self.codes[0][rows]], "second": names[self.codes[1][rows]], "decided": decided[rows],
        })  # fmt: skip
        return table.sort_values("decided", ascending=False, kind="stable", ignore_index=True).drop(columns="decided")


def choose(task: str, first: str, second: str) -> Versions:
    """The versions of these names: by default the champion, and the challenger or else the champion before.

    Raises
    ------
    ArtifactError
        If there are not two different ones, or one is missing, damaged or not evaluated.
    """
    pointer = registry.deployment(task)
    names = [first or pointer["champion"], second or pointer["challenger"] or next(reversed(pointer["previous"]), None)]
    if None in names or names[0] == names[1]:
        raise ArtifactError(f"Task {task!r} has no two versions to compare; name them with -p first and -p second.")
    return registry.evaluated(task, names[0]), registry.evaluated(task, names[1])


def experiment_between(task: str, first: registry.Version, second: registry.Version) -> Experiment | None:
    """The experiment that runs between champion and challenger, if these are the two."""
    found = running(task)
    return found if found and (found.champion, found.challenger) == (first.name, second.name) else None


def outcomes_of(task: str, experiment: Experiment | None, url: str) -> Outcomes:
    """What labels say of an experiment; nothing without one. Raises LogError where the log cannot be read."""
    return read_outcomes(task, url, experiment.started) if experiment else Outcomes()


def answers(versions: Versions, test: TaskEmbeddings) -> Answers:
    """Answers of both to the test images, on vectors of their own backbones."""
    names: list[np.ndarray] = []
    for version in versions:
        predictor = Predictor.from_version(version)
        codes = predictor.proba(test.vectors_for(predictor)).argmax(axis=1)
        names.append(np.array(predictor.classes, dtype=object)[codes])
    classes = list(dict.fromkeys([*versions[0].card["classes"], *versions[1].card["classes"], *test.classes]))
    places = {label: code for code, label in enumerate(classes)}
    first, second = (np.array([places[label] for label in answered]) for answered in names)
    return Answers(test.manifest["label"].map(places).to_numpy(dtype=int), (first, second), classes)


def verdict(experiment: Experiment | None, outcomes: Outcomes, pair: PairedComparison, versions: Versions) -> dict:
    """Which should serve, as JSON values: by the experiment if there is one, else by the test images.

    Parameters
    ----------
    experiment : Experiment or None
    outcomes : Outcomes
    pair : PairedComparison
        Of the second with the first on the test images.
    versions : two of registry.Version
    """
    if experiment:
        return judge(experiment, outcomes, versions[0].metrics["test"]["accuracy"]["value"]).to_json()
    gap = pair.difference
    state = "promote" if gap.low > 0 else "keep" if gap.high < 0 else "wait"
    text = {
        "promote": f"The second is better on the test images: {gap.points()}.",
        "keep": f"The first is better on the test images: {gap.points()}.",
        "wait": f"The test images do not tell them apart: {gap.points()}; PUT /experiment asks production.",
    }[state]
    return {"state": state, "text": text, "difference": gap.to_json()}
