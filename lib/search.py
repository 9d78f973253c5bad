"""Cross-validated search over classifiers, and the rule that selects one; on the training part only."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from lib.classifiers import FAMILIES, Spec, logistic_space, mlp_space
from lib.inference import n_cores
from lib.metrics import PairedComparison, compare_paired, log_loss

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
PATIENCE = 3  # worse values in a row after which a regularisation path ends


@dataclass
class Search:
    """What a search over one family found.

    Parameters
    ----------
    table : DataFrame, one row a spec and fold
        Columns spec (its index in `specs`), fold, accuracy, log_loss.
    specs : list of Spec
        In the order they were tried.
    proba : list of ndarray of shape (n, n_classes), float32
        Out-of-fold probabilities of each spec; row i belongs to training image i.
    """

    table: pd.DataFrame
    specs: list[Spec]
    proba: list[np.ndarray]

    @property
    def summary(self) -> pd.DataFrame:
        """One row a spec: mean and standard error over folds of the accuracy, and the mean log loss."""
        grouped = self.table.groupby("spec")
        scores = grouped["accuracy"].agg(accuracy="mean", standard_error="sem")
        return scores.assign(log_loss=grouped["log_loss"].mean())

    @property
    def best(self) -> int:
        """Index of the spec with the highest mean accuracy; among equals the one with the smallest log loss."""
        summary = self.summary.round({"accuracy": 12})  # a mean's last digits depend on the order of its folds
        return int(summary.sort_values(["accuracy", "log_loss"], ascending=[False, True], kind="stable").index[0])

    @property
    def best_spec(self) -> Spec:
        """The spec at `best`."""
        return self.specs[self.best]

    @property
    def best_proba(self) -> np.ndarray:
        """Out-of-fold probabilities of the best spec, shape (n, n_classes)."""
        return self.proba[self.best]


@dataclass(frozen=True)
class Selection:
    """The chosen spec, the rule's verdict in words, and the comparison it rests on (MLP first)."""

    spec: Spec
    reason: str
    comparison: PairedComparison


Progress = Callable[[Iterable, int, str], Iterable]


def _quiet(items: Iterable, total: int, description: str) -> Iterable:
    """Progress that shows nothing."""
    return items


def search_logistic(
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    *,
    seed: int,
    paths: list[list[Spec]] | None = None,
    progress: Progress = _quiet,
) -> Search:
    """Cross-validate regularisation paths: preprocessing once a fold, C ascending from where the last one ended.

    A path ends early once its mean log loss has risen PATIENCE times in a row: beyond that it only overfits more.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim), float32
    labels : ndarray of shape (n,), int
    folds : sequence of (train indices, validation indices)
    seed : int
    paths : list of list of Spec, optional
        `logistic_space` by default.
    progress : callable

    Returns
    -------
    Search
    """
    smallest = min(len(train) for train, _ in folds)
    paths = logistic_space(smallest, vectors.shape[1]) if paths is None else paths
    results: list[tuple[Spec, list[np.ndarray]]] = []
    with fold_threads() as parallel:
        for path in progress(paths, len(paths), "logistic regression, paths"):
            results.extend(_walk_path(parallel, path, vectors, labels, folds, seed))
    return _collect(results, labels, folds)


def search_mlp(
    vectors: np.ndarray,
    labels: np.ndarray,
    folds: Folds,
    *,
    seed: int,
    specs: list[Spec] | None = None,
    progress: Progress = _quiet,
) -> Search:
    """Cross-validate MLP sizes, penalties and preprocessing; parameters as in `search_logistic`."""
    smallest = min(len(train) for train, _ in folds)
    specs = mlp_space(smallest, vectors.shape[1]) if specs is None else specs
    results = []
    with fold_threads() as parallel:
        for spec in progress(specs, len(specs), "multi-layer perceptron, networks"):
            jobs = (delayed(fit_predict)(spec.build(seed), vectors, labels, *fold) for fold in folds)
            results.append((spec, parallel(jobs)))
    return _collect(results, labels, folds)


@contextlib.contextmanager
def fold_threads() -> Iterator[Parallel]:
    """A thread pool for folds: one BLAS thread each, and epoch budgets that end without a warning."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield Parallel(n_jobs=n_cores(), backend="threading")


def _walk_path(
    parallel: Parallel, path: list[Spec], vectors: np.ndarray, labels: np.ndarray, folds: Folds, seed: int
) -> Iterator[tuple[Spec, list[np.ndarray]]]:
    """Yield (spec, out-of-fold probabilities a fold) along ascending C."""
    prepared = parallel(delayed(_prepare)(path[0], vectors, *fold, seed) for fold in folds)
    models = [path[0].classifier(seed).set_params(warm_start=True) for _ in folds]
    losses: list[float] = []
    for spec in path:
        jobs = (
            delayed(_refit_predict)(model, spec.C, data, labels[train])
            for model, data, (train, _) in zip(models, prepared, folds, strict=True)
        )
        probas = parallel(jobs)
        yield spec, probas
        losses.append(float(np.mean([log_loss(labels[val], p) for p, (_, val) in zip(probas, folds, strict=True)])))
        recent = losses[-PATIENCE - 1 :]
        if len(recent) > PATIENCE and all(after > before for before, after in pairwise(recent)):
            return


def _prepare(
    spec: Spec, vectors: np.ndarray, train: np.ndarray, val: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A fold's two sides after the preprocessing that was fitted on its training side."""
    steps = make_pipeline(*(step for _, step in spec.preprocessing(seed)))
    return steps.fit_transform(vectors[train]), steps.transform(vectors[val])


def _refit_predict(model: object, C: float, data: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Refit a warm model at another C; probabilities of the validation side, shape (n_val, n_classes)."""
    return model.set_params(C=C).fit(data[0], labels).predict_proba(data[1])


def fit_predict(
    model: object, vectors: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray
) -> np.ndarray:
    """Fit on a fold's training side; probabilities of its validation side, shape (n_val, n_classes)."""
    return model.fit(vectors[train], labels[train]).predict_proba(vectors[val])


def _collect(results: list[tuple[Spec, list[np.ndarray]]], labels: np.ndarray, folds: Folds) -> Search:
    """Per-fold probabilities -> scores and out-of-fold matrices."""
    rows, probas = [], []
    for index, (_, parts) in enumerate(results):
        proba = np.empty((len(labels), parts[0].shape[1]), dtype=np.float32)
        for fold, ((_, val), part) in enumerate(zip(folds, parts, strict=True)):
            proba[val] = part
            rows.append((index, fold, float((part.argmax(1) == labels[val]).mean()), log_loss(labels[val], part)))
        probas.append(proba)
    table = pd.DataFrame(rows, columns=["spec", "fold", "accuracy", "log_loss"])
    return Search(table, [spec for spec, _ in results], probas)


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
    """Scores along the regularisation paths: columns preprocessing, C, accuracy, standard_error."""
    table = search.summary.reset_index(drop=True)
    table["preprocessing"] = [str(spec).rsplit(" + ", 1)[0] for spec in search.specs]
    return table.assign(C=[spec.C for spec in search.specs])


def grid_table(search: Search) -> pd.DataFrame:
    """Scores of the MLP's grid: columns network, alpha, accuracy, standard_error."""
    table = search.summary.reset_index(drop=True)
    table["network"] = [str(spec).rsplit(";", 1)[0] + ")" for spec in search.specs]
    return table.assign(alpha=[spec.alpha for spec in search.specs])


def fold_table(searches: dict[str, Search]) -> pd.DataFrame:
    """Accuracy of each family's best by fold (rows) and family (columns)."""
    return pd.DataFrame(
        {name: s.table[s.table["spec"] == s.best].set_index("fold")["accuracy"] for name, s in searches.items()}
    )
