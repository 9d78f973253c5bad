"""What an update from feedback costs: exactly, by a refit on everything, and at once, by steps between old images.

Vectors are the seeded clouds of benchmarks/training.py, 1,280 wide; 50 new labels come to 1,000, 10,000 and 100,000 old
images. Both are also scored on images that neither has seen. Seconds are medians of runs that take turns.
"""

import argparse
import sys
import warnings
from statistics import median
from time import perf_counter

import numpy as np
from measuring import machine, peak_megabytes, table
from training import clouds

N_NEW, N_TEST, DIM = 50, 2000, 1280


def measured(spec: object, n: int, rounds: int) -> tuple:
    """A row: seconds of both ways, exact over instant, accuracies on unseen images in per cent, peak MB."""
    from lib.incremental import Labelled, instant, refit
    from lib.probabilities import Probabilities

    vectors, labels = clouds(n + N_NEW + N_TEST, DIM)
    old, new, both, test = (
        Labelled(vectors[part], labels[part])
        for part in (slice(n), slice(n, n + N_NEW), slice(n + N_NEW), slice(n + N_NEW, None))
    )
    units = np.arange(n + N_NEW).astype(str)
    model = refit(spec, old, units[:n], n_folds=5, seed=0)
    ways = {
        "exact": lambda: refit(spec, both, units, n_folds=5, seed=0),
        "instant": lambda: instant(model, old, new, 10, seed=0),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    right = {}
    for _ in range(rounds):
        for way, update in ways.items():
            started = perf_counter()
            found = update()
            seconds[way].append(perf_counter() - started)
            right[way] = 100 * float((Probabilities(found)(test.vectors).argmax(axis=1) == test.labels).mean())
    exact, at_once = (median(seconds[way]) for way in ways)
    return exact, at_once, exact / at_once, *right.values(), peak_megabytes()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="old images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    from lib.classifiers import Spec

    warnings.simplefilter("ignore")  # epoch budgets that end
    rows = []
    for n in options.sizes:
        for spec in (Spec("logistic_regression", C=0.003), Spec("mlp", hidden=(64,), alpha=1.0)):
            rows.append((f"{n:,}", str(spec), *measured(spec, n, options.rounds)))
            print(*rows[-1], sep=", ", file=sys.stderr)
    print(machine(), "\n")
    columns = ["old images", "classifier", "exact, s", "instant, s", "exact over instant", "accuracy exact, %",
               "instant, %", "peak MB so far"]  # fmt: skip
    print(table(columns, rows))


if __name__ == "__main__":
    main()
