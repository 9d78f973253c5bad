import numpy as np
import pytest
from synthetic import LINEAR, NETWORK, draw, search_of

from lib import search
from lib.classifiers import Spec
from lib.metrics import log_loss


def test_the_best_spec_has_the_highest_mean_accuracy():
    found = search_of([[0.5, 0.7], [0.9, 0.7], [0.8, 0.6]])
    assert found.best == 1
    assert found.summary["accuracy"].tolist() == pytest.approx([0.6, 0.8, 0.7])
    assert found.summary["standard_error"].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_among_equals_the_smaller_log_loss_is_best_and_then_the_first():
    assert search_of([[0.8], [0.8], [0.8]], [0.3, 0.2, 0.2]).best == 1


def test_equal_accuracies_are_equal_in_whatever_order_the_folds_have_them():
    # (0.1 + 0.2 + 0.3) / 3 and (0.3 + 0.2 + 0.1) / 3 differ in the last digit of a float.
    forwards, backwards = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    assert search_of([forwards, backwards], [0.2, 0.3]).best == 0
    assert search_of([forwards, backwards], [0.3, 0.2]).best == 1


def test_random_labels_give_chance_accuracy():
    vectors, labels, folds = draw(n=300, gap=0, dim=100)
    for found in (
        search.search_logistic(vectors, labels, folds, seed=0, paths=[[LINEAR]]),
        search.search_mlp(vectors, labels, folds, seed=0, specs=[NETWORK]),
    ):
        right = (found.best_proba.argmax(1) == labels).mean()
        assert abs(right - 1 / 3) < 3 * np.sqrt(1 / 3 * 2 / 3 / 300)


@pytest.mark.parametrize("spec", [LINEAR, Spec("logistic_regression", True, 4, C=0.01)])
def test_a_label_known_only_within_its_own_fold_is_not_exploited(spec):
    # Each fold has a dimension of its own that gives its labels away; the models of that fold never saw it vary.
    vectors, labels, folds = draw(n=240, n_classes=2, gap=0, dim=10)
    for fold, (_, val) in enumerate(folds):
        vectors[:, fold] = 0
        vectors[val, fold] = 10 * (2 * labels[val] - 1)
    found = search.search_logistic(vectors, labels, folds, seed=0, paths=[[spec]])
    assert abs((found.best_proba.argmax(1) == labels).mean() - 0.5) < 3 * np.sqrt(0.25 / 240)


def test_out_of_fold_probabilities_do_not_depend_on_the_fold_they_are_for():
    vectors, labels, folds = draw()
    before = search.search_logistic(vectors, labels, folds, seed=0, paths=[[Spec("logistic_regression", C=0.1)]])
    val = folds[0][1]
    swapped = labels.copy()
    swapped[val] = labels[val][::-1]
    after = search.search_logistic(vectors, swapped, folds, seed=0, paths=[[Spec("logistic_regression", C=0.1)]])
    np.testing.assert_array_equal(before.best_proba[val], after.best_proba[val])


def scores_of(spec, vectors, labels, folds):
    """Accuracy and log loss a fold of a pipeline fitted as a user would."""
    for train, val in folds:
        proba = spec.build(0).fit(vectors[train], labels[train]).predict_proba(vectors[val])
        yield (proba.argmax(1) == labels[val]).mean(), log_loss(labels[val], proba)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("root", [False, True])
def test_warm_paths_on_shared_preprocessing_score_as_cold_fits_do(n_classes, root):
    vectors, labels, folds = draw(n_classes=n_classes)
    paths = [[Spec("logistic_regression", root, width, C=C) for C in (1e-3, 1e-2, 1e-1)] for width in (None, 3, 5)]
    found = search.search_logistic(vectors, labels, folds, seed=0, paths=paths)
    assert found.specs == [spec for path in paths for spec in path]
    for index, spec in enumerate(found.specs):
        rows = found.table[found.table["spec"] == index]
        cold = scores_of(spec, vectors, labels, folds[: len(rows)])  # the narrowest may be given up
        for row, (accuracy, loss) in zip(rows.itertuples(), cold, strict=True):
            assert row.accuracy == pytest.approx(accuracy, abs=1.1 / len(folds[0][1]))
            assert row.log_loss == pytest.approx(loss, rel=0.01)


def test_the_vectors_are_what_they_were_after_a_search():
    vectors, labels, folds = draw()
    before = vectors.copy()
    paths = [[Spec("logistic_regression", root, width, C=0.1)] for root in (False, True) for width in (None, 4)]
    search.search_logistic(vectors, labels, folds, seed=0, paths=paths)
    search.search_mlp(vectors, labels, folds, seed=0, specs=[NETWORK, Spec("mlp", True, 4, hidden=(8,), alpha=1.0)])
    np.testing.assert_array_equal(vectors, before)


def test_the_probabilities_of_a_search_are_out_of_fold_and_of_its_best():
    vectors, labels, folds = draw()
    found = search.search_logistic(
        vectors, labels, folds, seed=0, paths=[[LINEAR], [Spec(LINEAR.family, True, C=1e-5)]]
    )
    assert found.best_spec == LINEAR
    for train, val in folds:
        expected = LINEAR.build(0).fit(vectors[train], labels[train]).predict_proba(vectors[val])
        np.testing.assert_allclose(found.best_proba[val], expected, atol=1e-5)
    np.testing.assert_allclose(found.best_proba.sum(axis=1), 1, rtol=1e-5)


def test_a_spec_that_did_not_run_on_every_fold_is_never_the_best():
    found = search_of([[0.99], [0.7, 0.8]])
    assert found.best == 1
    assert found.summary["folds"].tolist() == [1, 2]
    assert found.best_accuracy == pytest.approx(0.75)


def test_only_a_network_clearly_behind_the_leader_is_given_up():
    # Of 100 images the leader gets 90. One alike but for 7 that only the leader gets: -7 points, standard error
    # sqrt(7 - 49 / 100) / 100 = 2.55. With 7 against 3: -4 points, standard error sqrt(10 - 16 / 100) / 100 = 3.14.
    labels = np.zeros(100, dtype=int)
    leader = np.r_[np.zeros(90, dtype=int), np.ones(10, dtype=int)]
    behind, near = leader.copy(), leader.copy()
    behind[:7] = 1
    near[:7], near[97:] = 1, 0
    assert search._beaten({4: near, 1: leader, 7: behind}, labels) == {7}


def test_a_hopeless_network_runs_on_one_fold_only_and_the_bar_still_ends():
    vectors, labels, folds = draw(n=400)
    hopeless = Spec("mlp", hidden=(8,), alpha=1e5)
    seen = []
    found = search.search_mlp(
        vectors, labels, folds, seed=0, specs=[hopeless, NETWORK], progress=lambda items, n, _: seen.append(n) or items
    )
    assert found.summary["folds"].tolist() == [1, 4]
    assert found.best_spec == NETWORK
    assert seen == [8]
    np.testing.assert_allclose(found.best_proba.sum(axis=1), 1, rtol=1e-5)


class Counting:
    """Stands in for a classifier: notes each fit, and answers from a table of C -> probability of class 0."""

    def __init__(self, answers):
        self.answers, self.fits = answers, []

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def fit(self, data, labels):
        self.fits.append((self.C, self.warm_start))
        return self

    def predict_proba(self, data):
        answer = self.answers[self.C]
        return np.array([answer, 1 - answer]) + np.zeros((len(data), 2))

    def predict(self, data):
        return self.predict_proba(data).argmax(1)


def walk(answers):
    """Walk a path of these C over four images of class 0: the scores, and the fits it took."""
    model = Counting(answers)
    path = [Spec("logistic_regression", C=C) for C in answers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spec, "classifier", lambda self, seed: model)
        scores, best = search._walk(path, (np.zeros((4, 1)), np.zeros((4, 1))), np.zeros(4, int), np.zeros(4, int), 0)
    assert (best == 0).mean() == max(accuracy for accuracy, *_ in scores)
    return scores, model.fits


def test_fits_start_warm_while_the_loss_falls_and_from_zero_once_it_rises():
    scores, fits = walk({0.1: 0.6, 1.0: 0.9, 10.0: 0.8, 100.0: 0.4, 1000.0: 0.7})
    assert fits == [(0.1, True), (1.0, True), (10.0, True), (10.0, False), (100.0, False), (1000.0, False)]
    assert [accuracy for accuracy, *_ in scores] == [1, 1, 1, 0, 1]
    assert scores[1][1] == pytest.approx(-np.log(0.9))


def test_a_path_ends_where_two_values_changed_no_prediction_and_keeps_its_scores():
    scores, fits = walk({0.1: 0.9, 1.0: 0.8, 10.0: 0.7, 100.0: 0.6, 1000.0: 0.1})
    assert fits[-1] == (10.0, False)
    assert len(scores) == 5
    assert scores[4] == scores[2] == (1.0, pytest.approx(-np.log(0.7)), 1.0)


def test_a_hopeless_preprocessing_is_given_up_after_the_first_fold():
    vectors, labels, folds = draw(n=400, gap=3)
    good, hopeless = [LINEAR], [Spec("logistic_regression", n_components=1, C=0.01)]
    seen = []
    found = search.search_logistic(
        vectors, labels, folds, seed=0, paths=[hopeless, good], progress=lambda i, n, _: seen.append(n) or i
    )
    assert found.summary["folds"].tolist() == [1, 4]
    assert found.best_spec == LINEAR
    assert seen == [8]
    assert search.path_table(found)["preprocessing"].tolist() == ["scaler + PCA 1 (given up after 1)", "scaler"]


def test_while_the_loss_falls_equal_predictions_end_nothing():
    scores, fits = walk({0.1: 0.1, 1.0: 0.2, 10.0: 0.3, 100.0: 0.4, 1000.0: 0.9})
    assert len(fits) == 5
    assert scores[-1][0] == 1


def test_searches_use_their_whole_spaces_by_default_and_report_progress():
    vectors, labels, folds = draw(n=40)
    seen = []

    def watch(items, total, description):
        seen.append((total, description))
        return items

    found = search.search_logistic(vectors, labels, folds, seed=0, progress=watch)
    assert seen == [(2 * len(folds), "logistic regression, paths")]
    assert {(spec.root, spec.n_components) for spec in found.specs} == {(False, None), (True, None)}


def test_the_same_seed_gives_the_same_networks():
    vectors, labels, folds = draw(n=60)
    first, again, other = (
        search.search_mlp(vectors, labels, folds, seed=seed, specs=[NETWORK]).best_proba for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def selection_between(n_only_mlp, n_only_logistic, n=100):
    """Select between hand-made searches that differ on so many images."""
    labels = np.zeros(n, dtype=int)
    right, wrong = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    mlp, logistic = np.tile(right, (n, 1)), np.tile(right, (n, 1))
    logistic[:n_only_mlp] = wrong
    mlp[n_only_mlp : n_only_mlp + n_only_logistic] = wrong
    return search.select(
        search_of([[0.9]], specs=[LINEAR], proba=logistic), search_of([[0.9]], specs=[NETWORK], proba=mlp), labels
    )


def test_the_mlp_is_chosen_beyond_one_standard_error():
    # 8 against 3: gain 5 points; standard error sqrt(11 - 25 / 100) / 100 = 3.28 points.
    selection = selection_between(8, 3)
    assert selection.spec == NETWORK
    assert "+5.00 points" in selection.reason
    assert "is more than one standard error of the paired difference (3.28 points)" in selection.reason
    assert "multi-layer perceptron is chosen" in selection.reason
    assert selection.comparison.only_first == 8


@pytest.mark.parametrize("pair", [(7, 5), (0, 0), (3, 8), (2, 1)])
def test_logistic_regression_stays_within_one_standard_error(pair):
    # 7 against 5: gain 2 points; standard error sqrt(12 - 4 / 100) / 100 = 3.46 points.
    selection = selection_between(*pair)
    assert selection.spec == LINEAR
    assert "not more than one standard error" in selection.reason
    assert "logistic regression is chosen" in selection.reason


def test_tables_name_preprocessing_network_and_penalty():
    specs = [Spec("logistic_regression", True, 64, C=C) for C in (0.1, 1.0)]
    table = search.path_table(search_of([[0.5, 0.7], [0.8, 0.8]], specs=specs))
    assert table["preprocessing"].tolist() == ["square root + scaler + PCA 64"] * 2
    assert table["C"].tolist() == [0.1, 1.0]
    assert table["accuracy"].tolist() == pytest.approx([0.6, 0.8])
    grid = search.grid_table(search_of([[0.5, 0.7]], specs=[Spec("mlp", hidden=(128, 64), alpha=0.1)]))
    assert grid[["network", "alpha"]].values.tolist() == [["scaler + MLP (128, 64)", 0.1]]


def test_the_fold_table_shows_the_best_of_each_family_by_fold():
    searches = {"linear": search_of([[0.1, 0.2], [0.7, 0.9]]), "MLP": search_of([[0.8, 0.6], [0.1, 0.1]])}
    table = search.fold_table(searches)
    assert table["linear"].tolist() == [0.7, 0.9]
    assert table["MLP"].tolist() == [0.8, 0.6]
    assert table.index.name == "fold"
