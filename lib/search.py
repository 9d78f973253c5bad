"""Cross-validated search over classifiers, and the rule that selects one; on the training part only.

What folds and specs share is done once: the preprocessing of a fold, the widest PCA, whose first columns are the
narrower ones. Memory holds the vectors and, a thread, one fold's copy of them.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from lib.classifiers import FAMILIES, Spec, logistic_space, mlp_space
from lib.inference import n_cores
from lib.metrics import PairedComparison, compare_paired, log_loss
from lib.progress import Progress, quiet

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
PLATEAU = 2  # values in a row that change no prediction, after which a regularisation path ends
RACE_ERRORS = 2.0  # standard errors behind the leader at which a network or a path is given up
Scores = tuple[float, float, float]  # accuracy, log loss, accuracy on the training side
COLUMNS = ["spec", "fold", "accuracy", "log_loss", "train_accuracy"]


@dataclass
class Search:
    """What a search over one family found.

    Parameters
    ----------
    table : DataFrame, one row a spec and fold
        COLUMNS; spec is its index in `specs`. A spec that was given up has fewer folds.
    specs : list of Spec
        In the order they were tried.
    best_proba : ndarray of shape (n, n_classes), float32
        Out-of-fold probabilities of the best spec, fitted as it will be; row i belongs to training image i.
    """

    table: pd.DataFrame
    specs: list[Spec]
    best_proba: np.ndarray

    @property
    def summary(self) -> pd.DataFrame:
        """One row a spec: mean and standard error over folds of the accuracy, the mean log loss, and the folds."""
        return summarise(self.table)

    @property
    def best(self) -> int:
        """Index of the spec with the highest mean accuracy over all folds; among equals the smallest log loss."""
        return best_of(self.table)

    @property
    def best_spec(self) -> Spec:
        """The spec at `best`."""
        return self.specs[self.best]

    @property
    def best_accuracy(self) -> float:
        """Its mean accuracy over all folds."""
        return float(self.summary.loc[self.best, "accuracy"])


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Scores a fold -> one row a spec: accuracy (mean), standard_error, log_loss and train_accuracy (means), folds."""
    grouped = table.groupby("spec")
    scores = grouped["accuracy"].agg(accuracy="mean", standard_error="sem", folds="size")
    return scores.join(grouped[["log_loss", "train_accuracy"]].mean())


def best_of(table: pd.DataFrame) -> int:
    """The spec with the highest mean accuracy among those that ran on every fold; then the smallest log loss."""
    summary = summarise(table)
    summary = summary[summary["folds"] == summary["folds"].max()]
    summary = summary.round({"accuracy": 12})  # a mean's last digits depend on the order of its folds
    return int(summary.sort_values(["accuracy", "log_loss"], ascending=[False, True], kind="stable").index[0])


@dataclass(frozen=True)
class Selection:
    """The chosen spec, the rule's verdict in words, and the comparison it rests on (MLP first)."""

    spec: Spec
    reason: str
    comparison: PairedComparison


def search_logistic(
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    *,
    seed: int,
    paths: list[list[Spec]] | None = None,
    progress: Progress = quiet,
) -> Search:
    """Cross-validate regularisation paths, C ascending, with the scores that cold fits of the same pipelines have.

    While a fold's log loss falls, each fit starts from where the last one ended: the penalty leads both to one
    optimum. Once it rises, the tolerance decides where a fit ends, and each starts from zero, as the final fit will.
    Where PLATEAU values in a row have changed no prediction of the fold, the penalty has ceased to matter and the rest
    of the path keeps the last scores. After the first fold, a path whose best is RACE_ERRORS standard errors of the
    paired difference behind the leader's is given up.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    labels : ndarray of shape (n,), int
    folds : sequence of (train indices, validation indices)
    seed : int
    paths : list of list of Spec, optional
        One preprocessing each; `logistic_space` by default.
    progress : callable

    Returns
    -------
    Search
    """
    smallest = min(len(train) for train, _ in folds)
    paths = logistic_space(smallest, vectors.shape[1]) if paths is None else paths
    scores: list[list[list[Scores]]] = [[] for _ in paths]
    with fold_threads(return_as="generator") as parallel:
        race = _race_paths(parallel, paths, vectors, labels, folds, seed)
        for index, path_scores in progress(race, len(paths) * len(folds), "logistic regression, paths"):
            if path_scores is not None:
                scores[index].append(path_scores)
    specs, rows = [], []
    for path, folds_scores in zip(paths, scores, strict=True):
        for step, spec in enumerate(path):
            rows += [(len(specs), fold, *path_scores[step]) for fold, path_scores in enumerate(folds_scores)]
            specs.append(spec)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return Search(table, specs, cross_validate(specs[best_of(table)], vectors, labels, folds, seed=seed))


def search_mlp(
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    *,
    seed: int,
    specs: list[Spec] | None = None,
    progress: Progress = quiet,
) -> Search:
    """Race MLP sizes, penalties and preprocessing through the folds.

    After each fold a network is given up that is RACE_ERRORS standard errors of the paired difference behind the
    leader, on the images judged so far (racing: Maron and Moore 1994, here with paired errors). Parameters as in
    `search_logistic`.
    """
    smallest = min(len(train) for train, _ in folds)
    specs = mlp_space(smallest, vectors.shape[1]) if specs is None else specs
    rows: list[tuple] = []
    with fold_threads() as parallel:
        race = _race(parallel, specs, vectors, labels, folds, seed, rows)
        kept: dict[int, list[np.ndarray]] = {index: [] for index in range(len(specs))}
        for index, proba in progress(race, len(specs) * len(folds), "multi-layer perceptron, networks"):
            if proba is None:
                kept.pop(index, None)  # given up: its probabilities are not needed
            else:
                kept[index].append(proba)
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values(["spec", "fold"], ignore_index=True)
    return Search(table, specs, _joined(kept[best_of(table)], labels, folds))


@contextlib.contextmanager
def fold_threads(return_as: str = "list") -> Iterator[Parallel]:
    """A thread pool for folds: one BLAS thread each, and epoch budgets that end without a warning.

    `return_as` is joblib's: a "list" when all is done, or a "generator" of results in order as they come.
    """
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield Parallel(n_jobs=n_cores(), backend="threading", return_as=return_as)


def cross_validate(spec: Spec, vectors: np.ndarray, labels: np.ndarray, folds: Folds, *, seed: int) -> np.ndarray:
    """Out-of-fold probabilities of one spec, shape (n, n_classes), float32."""
    with fold_threads() as parallel:
        parts = parallel(
            delayed(fit_predict)(spec.build(seed, in_place=True), vectors, labels, *fold) for fold in folds
        )
    return _joined(parts, labels, folds)


def _joined(parts: Sequence[np.ndarray], labels: np.ndarray, folds: Folds) -> np.ndarray:
    """Probabilities a fold -> one matrix in the order of the training images."""
    proba = np.empty((len(labels), parts[0].shape[1]), dtype=np.float32)
    for (_, val), part in zip(folds, parts, strict=True):
        proba[val] = part
    return proba


def _race_paths(
    parallel: Parallel, paths: list[list[Spec]], vectors: np.ndarray, labels: np.ndarray, folds: Folds, seed: int
) -> Iterator[tuple[int, list[Scores] | None]]:
    """Yield (path, its scores in a fold), and for one given up after the first fold (path, None) for each fold left."""
    alive = list(range(len(paths)))
    predicted: dict[int, np.ndarray] = {}
    for index, (scores, guess) in _walk_folds(parallel, paths, alive, vectors, labels, folds[:1], seed):
        predicted[index] = guess
        yield index, scores
    beaten = _beaten(predicted, labels[folds[0][1]])
    yield from ((index, None) for index in sorted(beaten) for _ in folds[1:])
    alive = [index for index in alive if index not in beaten]
    for index, (scores, _) in _walk_folds(parallel, paths, alive, vectors, labels, folds[1:], seed):
        yield index, scores


Walked = tuple[list[Scores], np.ndarray]  # scores along a path, and the predictions of its best value


def _walk_folds(
    parallel: Parallel,
    paths: list[list[Spec]],
    alive: list[int],
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    seed: int,
) -> Iterator[tuple[int, Walked]]:
    """Yield (path, what walking it came to) for each of the paths alive in each fold; those of one root together."""
    groups = [[index for index in alive if paths[index][0].root == root] for root in (False, True)]
    jobs = [(fold, group) for fold in folds for group in groups if group]
    calls = (delayed(_walk_paths)([paths[i] for i in group], vectors, labels, *fold, seed) for fold, group in jobs)
    for (_, group), walked in zip(jobs, parallel(calls), strict=True):
        yield from zip(group, walked, strict=True)


def _walk_paths(
    paths: list[list[Spec]], vectors: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray, seed: int
) -> list[Walked]:
    """Walk paths of one fold that differ in their PCA width only; the widest PCA serves all."""
    scaled = _prepare(Spec("", paths[0][0].root), vectors, train, val)
    widths = [path[0].n_components or 0 for path in paths]
    results: dict[int, Walked] = {}
    for index in np.argsort([width > 0 for width in widths], kind="stable"):  # all directions first: then they can go
        width = widths[index]
        if width and scaled[0].shape[1] != max(widths):
            pca = paths[int(np.argmax(widths))][0].preprocessing(in_place=True)[-1][1]
            scaled = pca.fit_transform(scaled[0]), pca.transform(scaled[1])
        data = tuple(np.ascontiguousarray(side[:, :width]) for side in scaled) if width else scaled
        results[int(index)] = _walk(paths[index], data, labels[train], labels[val], seed)
    return [results[index] for index in range(len(paths))]


def _walk(
    path: list[Spec], data: tuple[np.ndarray, ...], labels: np.ndarray, val_labels: np.ndarray, seed: int
) -> Walked:
    """Walk a path of one fold; one pair of scores for each C."""
    model = path[0].classifier(seed)
    scores: list[Scores] = []
    before, best, warm, unchanged = np.empty(0), np.empty(0), True, 0
    for spec in path:
        proba = model.set_params(C=spec.C, warm_start=warm).fit(data[0], labels).predict_proba(data[1])
        if warm and scores and log_loss(val_labels, proba) > scores[-1][1]:
            warm = False
            proba = model.set_params(warm_start=False).fit(data[0], labels).predict_proba(data[1])
        predicted = proba.argmax(1)
        scores.append(_scores(proba, val_labels, (model.predict(data[0]) == labels).mean()))
        if scores[-1][0] > max((accuracy for accuracy, *_ in scores[:-1]), default=-1.0):
            best = predicted
        unchanged = unchanged + 1 if not warm and np.array_equal(predicted, before) else 0
        before = predicted
        if unchanged == PLATEAU:
            break
    return scores + [scores[-1]] * (len(path) - len(scores)), best


def _scores(proba: np.ndarray, labels: np.ndarray, train_accuracy: float) -> Scores:
    """Accuracy and log loss of probabilities, beside the accuracy on the training side."""
    return float((proba.argmax(1) == labels).mean()), log_loss(labels, proba), float(train_accuracy)


def _race(
    parallel: Parallel,
    specs: list[Spec],
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    seed: int,
    rows: list[tuple],
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield (spec, its probabilities of a fold), and for one given up (spec, None) in place of each fold left.

    Fills `rows` with (spec, fold, accuracy, log loss).
    """
    alive = list(range(len(specs)))
    predicted: dict[int, list[np.ndarray]] = {index: [] for index in alive}
    for fold, (train, val) in enumerate(folds):
        probas = _fit_fold(parallel, [specs[index] for index in alive], vectors, labels, train, val, seed)
        for index, (proba, train_accuracy) in zip(alive, probas, strict=True):
            rows.append((index, fold, *_scores(proba, labels[val], train_accuracy)))
            predicted[index].append(proba.argmax(1))
            yield index, proba
        judged = labels[np.concatenate([val for _, val in folds[: fold + 1]])]
        beaten = _beaten({index: np.concatenate(predicted[index]) for index in alive}, judged)
        if fold + 1 < len(folds):
            alive = [index for index in alive if index not in beaten]
            yield from ((index, None) for index in sorted(beaten) for _ in folds[fold + 1 :])


def _fit_fold(
    parallel: Parallel,
    specs: list[Spec],
    vectors: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    seed: int,
) -> list[tuple[np.ndarray, float]]:
    """Of each spec what `_fit_prepared` gives of one fold; no copy of the fold outlives it."""
    kinds = list(dict.fromkeys(spec.preprocessing_only() for spec in specs))
    prepared = dict(zip(kinds, parallel(delayed(_prepare)(kind, vectors, train, val) for kind in kinds), strict=True))
    return parallel(
        delayed(_fit_prepared)(spec, prepared[spec.preprocessing_only()], labels[train], seed) for spec in specs
    )


def _beaten(predicted: dict[int, np.ndarray], labels: np.ndarray) -> set[int]:
    """Those whose predictions are clearly less often right than the leader's on the same images."""
    leader = max(predicted, key=lambda index: (predicted[index] == labels).sum())
    found = set()
    for index, guess in predicted.items():
        pair = compare_paired(labels, guess, predicted[leader])
        if pair.difference.value < -RACE_ERRORS * pair.standard_error:
            found.add(index)
    return found


def _prepare(spec: Spec, vectors: np.ndarray, train: np.ndarray, val: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fold's two sides after the preprocessing that was fitted on its training side."""
    steps = make_pipeline(*(step for _, step in spec.preprocessing(in_place=True)))
    return steps.fit_transform(vectors[train]), steps.transform(vectors[val])


def _fit_prepared(
    spec: Spec, data: tuple[np.ndarray, np.ndarray], labels: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Fit the classifier alone: probabilities of the validation side, accuracy on the training side."""
    model = spec.classifier(seed).fit(data[0], labels)
    return model.predict_proba(data[1]), float((model.predict(data[0]) == labels).mean())


def fit_predict(
    model: object, vectors: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray
) -> np.ndarray:
    """Fit on a fold's training side; probabilities of its validation side, shape (n_val, n_classes).

    Both sides are copies of rows of `vectors`, so the model may work in place.
    """
    return model.fit(vectors[train], labels[train]).predict_proba(vectors[val])


def select(logistic: Search, mlp: Search, labels: np.ndarray) -> Selection:
    """The one-standard-error rule between the families' best (Breiman et al. 1984): the MLP must earn its place.

    The MLP is chosen only if its out-of-fold accuracy exceeds logistic regression's by more than one standard error
    of their paired difference; otherwise the simpler model is.
    """
    comparison = compare_paired(labels, mlp.best_proba.argmax(1), logistic.best_proba.argmax(1))
    gain, error = 100 * comparison.difference.value, 100 * comparison.standard_error
    family = "mlp" if gain > error else "logistic_regression"
    verdict = "more" if family == "mlp" else "not more"
    reason = (
        f"Out of fold the MLP is {gain:+.2f} points from logistic regression; that is {verdict} than one standard "
        f"error of the paired difference ({error:.2f} points), so {FAMILIES[family]} is chosen."
    )
    return Selection((mlp if family == "mlp" else logistic).best_spec, reason, comparison)


def path_table(search: Search) -> pd.DataFrame:
    """Scores along the regularisation paths: columns preprocessing, C, accuracy, standard_error, train_accuracy, folds.

    The name of a path that was given up says after how many folds.
    """
    table = search.summary.reset_index(drop=True)
    names = [str(spec).rsplit(" + ", 1)[0] for spec in search.specs]
    ends = [f" (given up after {n})" if n < table["folds"].max() else "" for n in table["folds"]]
    table["preprocessing"] = [name + end for name, end in zip(names, ends, strict=True)]
    return table.assign(C=[spec.C for spec in search.specs])


def grid_table(search: Search) -> pd.DataFrame:
    """Scores of the MLP's grid: columns network, alpha, accuracy, standard_error, folds."""
    table = search.summary.reset_index(drop=True)
    table["network"] = [str(spec).rsplit(";", 1)[0] + ")" for spec in search.specs]
    return table.assign(alpha=[spec.alpha for spec in search.specs])


def fold_table(searches: dict[str, Search]) -> pd.DataFrame:
    """Accuracy of each family's best by fold (rows) and family (columns)."""
    return pd.DataFrame(
        {name: s.table[s.table["spec"] == s.best].set_index("fold")["accuracy"] for name, s in searches.items()}
    )
