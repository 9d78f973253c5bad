"""Two versions side by side."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from streams import copied_task

from lib import comparison, experiments, registry
from lib.comparison import Answers
from lib.errors import ArtifactError
from lib.metrics import compare_paired
from lib.production import Outcomes
from lib.tasks import load_task


@pytest.fixture
def two(tiny_task, tmp_path, monkeypatch):
    """A task of its own with a second version, of the same model: task, champion, the other one."""
    copied_task(tiny_task, tmp_path, monkeypatch)
    champion = registry.champion(tiny_task)
    shutil.copytree(champion.folder, champion.folder.with_name("2999-other"))
    return tiny_task, champion.name, "2999-other"


def test_by_default_it_is_the_champion_and_who_waits_or_served_before(two):
    task, champion, other = two
    with pytest.raises(ArtifactError, match="no two versions"):
        comparison.choose(task, "", "")
    registry.challenge(task, other)
    assert [version.name for version in comparison.choose(task, "", "")] == [champion, other]
    registry.promote(task, other)
    assert [version.name for version in comparison.choose(task, "", "")] == [other, champion]
    assert [version.name for version in comparison.choose(task, champion, other)] == [champion, other]
    with pytest.raises(ArtifactError, match="no two versions"):
        comparison.choose(task, champion, champion)


def test_the_same_model_gives_the_same_answers(two):
    task, champion, other = two
    found = comparison.answers(comparison.choose(task, champion, other), load_task(task, ["test"]))
    np.testing.assert_array_equal(*found.codes)
    assert (found.labels == found.codes[0]).mean() > 0.8
    assert len(found.disagreements(load_task(task, ["test"]))) == 0


def test_disagreements_that_one_of_them_has_right_come_first():
    codes = np.array([0, 1, 0]), np.array([1, 1, 2])
    test = SimpleNamespace(manifest=pd.DataFrame({"path": ["v", "w", "x"]}, index=[5, 3, 9]))
    table = Answers(np.array([2, 1, 0]), codes, ["a", "b", "c"]).disagreements(test)
    assert table.values.tolist() == [["x", "a", "a", "c"], ["v", "c", "a", "b"]]


def test_an_experiment_counts_only_between_its_own_two(two):
    task, champion, other = two
    versions = comparison.choose(task, champion, other)
    assert comparison.experiment_between(task, *versions) is None
    assert comparison.outcomes_of(task, None, "") == Outcomes()
    begun = experiments.start(task, other)
    assert comparison.experiment_between(task, *versions) == begun
    assert comparison.experiment_between(task, *reversed(versions)) is None


@pytest.mark.parametrize(("n_better", "state"), [(30, "promote"), (-30, "keep"), (1, "wait")])
def test_without_an_experiment_the_test_images_decide(n_better, state):
    labels = np.zeros(200, dtype=int)
    first, second = labels.copy(), labels.copy()
    (first if n_better > 0 else second)[: abs(n_better)] = 1
    found = comparison.verdict(None, Outcomes(), compare_paired(labels, second, first), ())
    assert found["state"] == state


def test_with_one_its_labels_decide():
    experiment = experiments.Experiment("e", "one", "two", "shadow", 0.0, 0.05, 0.0, 1e12)
    outcomes = Outcomes({}, [(False, True)] * 60 + [(True, True)] * 100, {"champion": {"a"}})
    pair = compare_paired(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int))
    version = SimpleNamespace(metrics={"test": {"accuracy": {"value": 0.85}}})
    assert comparison.verdict(experiment, outcomes, pair, (version, version))["state"] == "promote"
