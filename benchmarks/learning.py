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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="old images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    from lib.classifiers import Spec
    from lib.incremental import Labelled, instant, refit
    from lib.probabilities import Probabilities

    warnings.simplefilter("ignore")  # epoch budgets that end
    specs = [Spec("logistic_regression", C=0.003), Spec("mlp", hidden=(64,), alpha=1.0)]
    rows = []
    for n in options.sizes:
        vectors, labels = clouds(n + N_NEW + N_TEST, DIM)
        old, new = (Labelled(vectors[part], labels[part]) for part in (slice(n), slice(n, n + N_NEW)))
        both = Labelled(vectors[: n + N_NEW], labels[: n + N_NEW])
        test, truth = vectors[n + N_NEW :], labels[n + N_NEW :]
        for spec in specs:
            model = refit(spec, old, np.arange(n).astype(str), n_folds=5, seed=0)
            seconds: dict[str, list[float]] = {"exact": [], "instant": []}
            for _ in range(options.rounds if n < 100_000 else 1):
                for method in seconds:
                    started = perf_counter()
                    if method == "exact":
                        found = refit(spec, both, np.arange(n + N_NEW).astype(str), n_folds=5, seed=0)
                    else:
                        found = instant(model, old, new, 10, seed=0)
                    seconds[method].append(perf_counter() - started)
                    right = float((Probabilities(found)(test).argmax(axis=1) == truth).mean())
                    if method == "exact":
                        exact = right
            times = [median(seconds[method]) for method in ("exact", "instant")]
            rows.append((f"{n:,}", str(spec), *times, times[0] / times[1], 100 * exact, 100 * right, peak_megabytes()))
            print(*rows[-1], sep=", ", file=sys.stderr)
    print(machine(), "\n")
    columns = ["old images", "classifier", "exact, s", "instant, s", "exact over instant", "accuracy exact, %",
               "instant, %", "peak MB so far"]  # fmt: skip
    print(table(columns, rows))


if __name__ == "__main__":
    main()
