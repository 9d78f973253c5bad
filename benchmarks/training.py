"""The search for a classifier, against plain GridSearchCV over the same pipelines, grid and folds.

Vectors are seeded clouds that look like pooled activations (many directions of falling weight, none negative), of which
logistic regression gets about nine in ten right. CPU seconds count every process; both sides use every core.
"""

import argparse
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from time import perf_counter

import numpy as np
from measuring import Contender, machine, serve, table, take_turns


def clouds(n: int, dim: int, n_classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, dim) float32 and labels (n,) int."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    rank = 200
    weight = 4 / np.sqrt(1 + np.arange(rank))
    centres = 0.28 * rng.normal(size=(n_classes, rank))
    mixing = (rng.normal(size=(rank, dim)) / np.sqrt(rank)).astype(np.float32)
    vectors = ((centres[labels] + rng.normal(size=(n, rank))) * weight).astype(np.float32) @ mixing
    vectors += 0.3 * rng.standard_normal((n, dim), dtype=np.float32)
    return np.maximum(vectors, 0, out=vectors) ** 1.5, labels


def cpu_seconds() -> float:
    """CPU time of this process and of the children it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def folds_of(labels: np.ndarray) -> list:
    """Five stratified folds."""
    from lib.splits import folds

    return folds(labels, np.arange(len(labels)).astype(str), n_folds=5, seed=0)


def ours(vectors: np.ndarray, labels: np.ndarray, family: str) -> str:
    """This project's search; the best spec."""
    from lib.search import search_logistic, search_mlp

    search = search_logistic if family == "logistic_regression" else search_mlp
    return str(search(vectors, labels, folds_of(labels), seed=0).best_spec)


def grid_search(vectors: np.ndarray, labels: np.ndarray, family: str) -> str:
    """scikit-learn's GridSearchCV over the very pipelines that ours searches; the best spec."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline

    from lib.classifiers import logistic_space, mlp_space
    from lib.inference import n_cores

    smallest = 4 * len(labels) // 5
    if family == "logistic_regression":
        specs = [spec for path in logistic_space(smallest, vectors.shape[1]) for spec in path]
    else:
        specs = mlp_space(smallest, vectors.shape[1])
    steps = ("root", "scaler", "pca", "classifier")
    grid = [{step: [dict(spec.build(0).steps).get(step, "passthrough")] for step in steps} for spec in specs]
    pipeline = specs[0].build(0)
    pipeline = Pipeline([(step, "passthrough") for step in steps[:-1]] + pipeline.steps[-1:])
    search = GridSearchCV(pipeline, grid, cv=folds_of(labels), n_jobs=n_cores(), refit=False, error_score="raise")
    search.fit(vectors, labels)
    return str(specs[int(search.best_index_)])


def stage(vectors: np.ndarray, labels: np.ndarray, family: str) -> str:
    """What 03 does of this project: both searches, learning curve, calibrated fit; the chosen spec."""
    from lib.search import search_logistic, search_mlp, select
    from lib.training import fit_calibrated, learning_curve

    folds = folds_of(labels)
    searches = [search(vectors, labels, folds, seed=0) for search in (search_logistic, search_mlp)]
    selection = select(*searches, labels)
    learning_curve(selection.spec, vectors, labels, folds, seed=0)
    fit_calibrated(selection.spec, vectors, labels, folds, seed=0)
    return str(selection.spec)


def prepare(who: str, family: str, n: int, dim: int) -> Callable[[], dict]:
    """What a contender runs; the first call does nothing, for a search needs no warming up."""
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"
    vectors, labels = clouds(n, dim)
    work = {"ours": ours, "GridSearchCV": grid_search, "stage": stage}[who]
    state = {"warm": False}

    def run() -> dict:
        if not state["warm"]:
            state["warm"] = True
            return {}
        before = cpu_seconds()
        with PeakOfTree() as peak:
            best = work(vectors, labels, family)
        if who == "GridSearchCV":
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True)  # its workers' CPU time counts once they are waited for
        return {"cpu": cpu_seconds() - before, "best": best, "peak": peak.megabytes}

    return run


class PeakOfTree:
    """Largest resident memory of this process and its children together, looked at ten times a second."""

    def __enter__(self) -> "PeakOfTree":
        self.megabytes, self._stop = 0.0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.megabytes = max(self.megabytes, sum(map(resident, tree(os.getpid()))))
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    found += tree(int(child))
    except OSError:
        pass  # it has just ended
    return found


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def main() -> None:
    """Both families against GridSearchCV, and the memory of the whole stage on more data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--families", nargs="+", default=["logistic_regression", "mlp"])
    parser.add_argument("--large", type=int, default=50_000, help="images for the memory of the stage; 0 leaves it out")
    parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        who, family, n, dim = options.contender
        serve(lambda: prepare(who, family, int(n), int(dim)))
        return
    print(f"{machine()}; {options.n:,} x {options.dim} vectors, {options.rounds} rounds.\n")
    rows, sums = [], {"ours": 0.0, "GridSearchCV": 0.0}
    for family in options.families:
        sizes = (str(options.n), str(options.dim))
        contenders = [Contender(who, __file__, who, family, *sizes) for who in sums]
        take_turns(contenders, options.rounds)
        for contender in contenders:
            contender.close()
            sums[contender.name] += contender.median("cpu")
            best = contender.runs[-1]["best"] if contender.runs else contender.error
            figures = (contender.median("cpu"), contender.median("wall"), contender.median("peak"))
            rows.append((family, contender.name, *figures, best))
        print(f"  {family}: done", file=sys.stderr, flush=True)
    print(table(["search", "", "CPU s", "seconds", "peak MB", "best"], rows))
    print(f"\nCPU of GridSearchCV over ours, all searches: {sums['GridSearchCV'] / sums['ours']:.1f}.", flush=True)
    if options.large:
        contender = Contender("stage", __file__, "stage", "both", str(options.large), str(options.dim))
        started = perf_counter()
        contender.run()
        contender.close()
        figures = (contender.median("cpu"), perf_counter() - started, contender.median("peak"))
        print(f"\nThe whole training stage on {options.large:,} x {options.dim}:\n")
        print(table(["CPU s", "seconds", "peak MB"], [figures]))
        print(contender.error)


if __name__ == "__main__":
    main()
