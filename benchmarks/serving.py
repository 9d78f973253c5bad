"""What a request costs: this project's service beside a plain FastAPI + torch service and LitServe, same backbone.

Each contender is a process tree of its own on the loopback, started anew each round; they take turns, and figures are
medians over the rounds. Clients send one image a request as a form, from a process of its own (load.py): first 1, 2 and
8 that wait for their answers, then requests that come at random (Poisson) at 0.5, 0.8 and 4 times the rate that the
contender has just reached, whether it keeps up or not, with latency counted from when a request was due.

Needs a promoted model on EfficientNet-Lite0: run ./run_pipeline.sh -p backbone efficientnet_lite0 first.
"""

import argparse
import math
import multiprocessing
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psutil
from load import TIMEOUT
from measuring import Contender, machine, serve, table
from tree import OURS, SERVICES, Service

CASES = ("500x375 JPEG", "12 MP JPEG", "28x28 PNG")
CLIENTS = (1, 2, 8)
TIMES = (0.5, 0.8, 4)  # the peak
Figures = dict[tuple, float | Counter]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed; nan of none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan


def milliseconds(answers: Sequence[Sequence], status: object) -> list[float]:
    """From when they were due, of the answers with a status."""
    return [1000 * (over - due) for said, due, _, over, _ in answers if said == status]


def closed_loop(service: Service, folder: Path, seconds: float, cost: Callable[[], float]) -> Figures:
    """Rate and latency for each number of clients; what an image costs by itself is measured around the lone one."""
    service.load(folder=str(folder), seconds=1, clients=8)  # warms up
    figures: Figures = {}
    before = cost()
    for clients in CLIENTS:
        answers = service.load(folder=str(folder), seconds=seconds, clients=clients)["answers"]
        good = milliseconds(answers, 200)
        figures[clients, "rate"] = len(good) / max(over for _, _, _, over, _ in answers)
        figures[clients, "p50"], figures[clients, "p99"] = percentile(good, 0.5), percentile(good, 0.99)
        if clients == 1:
            figures["bare"] = (before + cost()) / 2
            figures["over bare"] = figures[clients, "p50"] / figures["bare"]
            say(f"    p50 {figures[clients, 'p50']:.1f} ms, {figures['over bare']:.2f} times the bare cost")
        if len(good) < len(answers):
            say(f"    {len(answers) - len(good)} of {len(answers)} answers were no 200")
    return figures


def open_loop(service: Service, folder: Path, seconds: float, peak: float, seed: int, probe: bool) -> Figures:
    """What comes back at each share of the peak; goodput are the 200s that came while requests were sent."""
    figures: Figures = {}
    for times in TIMES:
        plan = {"folder": str(folder), "seconds": seconds, "rate": times * peak, "seed": seed, "probe": probe}
        result = service.load(**plan)
        answers = result["answers"]
        good = milliseconds(answers, 200)
        in_time = sum(said == 200 and over <= seconds for said, _, _, over, _ in answers)
        refused = [says_when for said, *_, says_when in answers if said == 503]
        late = percentile([1000 * (sent - due) for _, due, sent, _, _ in answers], 0.99)
        figures |= {
            (times, "offered"): len(answers) / seconds,
            (times, "answers"): Counter(str(answer[0]) for answer in answers),
            (times, "goodput"): in_time / seconds,
            (times, "share"): in_time / seconds / peak,
            (times, "p50"): percentile(good, 0.5),
            (times, "p99"): percentile(good, 0.99),
            (times, "p99 of 503"): percentile(milliseconds(answers, 503), 0.99),
            (times, "says when"): Counter({"with": sum(refused), "503": len(refused)}),
            (times, "livez"): percentile(milliseconds(result["probes"], 200), 0.99),
            (times, "livez failed"): Counter(failed=sum(answer[0] != 200 for answer in result["probes"])),
            (times, "late"): late,
        }
        cpu = result["cpu"] / result["wall"]
        say(f"    {times:g} x peak: sent {late:.1f} ms late at p99, on {cpu:.0%} of a core")
    return figures


def measure(name: str, number: int, port: int, folder: Path, options: argparse.Namespace) -> Figures:
    """One contender's turn."""
    with tempfile.TemporaryDirectory() as written:
        began, before = time.perf_counter(), foreign_seconds()
        service = Service(name, options.task, port, sorted(folder.iterdir())[0], Path(written))
        try:
            figures: Figures = {"wall": service.wall, "cpu": service.cpu_at_start, "memory": service.megabytes()}
            say(f"    first answer after {service.wall:.1f} s")
            figures |= closed_loop(service, folder, options.seconds, lambda: bare_milliseconds(options.task, folder))
            figures["peak"] = max(figures[clients, "rate"] for clients in CLIENTS)
            say(f"    peak {figures['peak']:.1f} requests/s")
            is_ours = name.startswith(OURS)
            figures |= open_loop(service, folder, options.seconds, figures["peak"], number, is_ours)
            others = (foreign_seconds() - before - service.cpu()) / (time.perf_counter() - began)
            say(f"    other programs took {others:.2f} cores")
            return figures | {"peak memory": service.peak, "others": others}
        finally:
            service.stop()


def foreign_seconds() -> float:
    """CPU seconds of all cores that neither this program nor its ended children computed, taken by the host too."""
    times, own = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = times.idle + getattr(times, "iowait", 0) + getattr(times, "guest", 0) + getattr(times, "guest_nice", 0)
    return sum(times) - idle - sum(own[:4])


def bare(task: str, folder: Path) -> Callable[[], dict]:
    """What a request costs without a service: decoding, preprocessing and the forward pass, one image at a time."""
    from lib import registry
    from lib.prediction import Predictor

    predictor = Predictor.from_version(registry.champion(task))
    files = [path.read_bytes() for path in sorted(folder.iterdir())]

    def run() -> dict:
        seconds = []
        for data in files:
            started = time.perf_counter()
            predictor.encoder.encode(predictor.pixels(data)[None])
            seconds.append(time.perf_counter() - started)
        return {"p50": 1000 * median(seconds)}

    return run


def bare_milliseconds(task: str, folder: Path, passes: int = 5) -> float:
    """`bare` in a process that has ended before a service's memory is looked at: shared pages would make it small."""
    contender = Contender("bare", __file__, task, str(folder))
    for _ in range(passes):
        contender.run()
    contender.close()
    if contender.error:
        sys.exit(f"This project's model cannot be used ({contender.error}); run ./run_pipeline.sh first.")
    return contender.median("p50")


def write_images(folder: Path) -> None:
    """The images of embedding.py."""
    import embedding

    embedding.write_images(folder)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def middle(runs: Sequence[Figures], key: object) -> float:
    """Median of a figure over the rounds in which there was one."""
    found = [run[key] for run in runs if not math.isnan(run[key])]
    return median(found) if found else math.nan


def total(runs: Sequence[Figures], key: object) -> Counter:
    """Counts of all rounds together."""
    return sum((run[key] for run in runs), Counter())


def show_starts(results: dict[str, list[Figures]]) -> None:
    """Start-up and memory."""
    rows = []
    for name, runs in results.items():
        figures = [middle(runs, key) for key in ("wall", "cpu", "memory", "peak memory")]
        rows.append((name, *figures, middle(results[OURS], "peak memory") / figures[-1]))
    columns = ["", "seconds to the first answer", "CPU s", "MB then", "peak MB under load", f"{OURS}'s peak over it"]
    print("\nStart-up and memory\n\n" + table(columns, rows))


def show_closed(results: dict[str, list[Figures]]) -> None:
    """Clients that wait for their answers."""
    rows = []
    for clients in CLIENTS:
        ours = middle(results[OURS], (clients, "rate"))
        for name, runs in results.items():
            rate, p50, p99 = (middle(runs, (clients, key)) for key in ("rate", "p50", "p99"))
            over = middle(runs, "over bare") if clients == 1 else math.nan
            rows.append((clients, name, rate, ours / rate, p50, p99, over))
    columns = ["clients", "", "requests/s", f"{OURS}'s over it", "p50 ms", "p99 ms", "p50 over the bare cost"]
    cost = median(run["bare"] for runs in results.values() for run in runs)
    print(f"\nClients that wait for their answers (bare cost of an image: {cost:.1f} ms)\n\n" + table(columns, rows))


def show_open(results: dict[str, list[Figures]]) -> None:
    """Requests that come whether it keeps up or not."""
    rows = []
    for times in TIMES:
        for name, runs in results.items():
            counts = total(runs, (times, "answers"))
            answers = ", ".join(f"{said}: {100 * n / counts.total():.3g} %" for said, n in counts.most_common())
            offered, goodput, share = (middle(runs, (times, key)) for key in ("offered", "goodput", "share"))
            latency = [middle(runs, (times, key)) for key in ("p50", "p99", "p99 of 503")]
            rows.append((times, name, offered, answers, goodput, f"{100 * share:.0f} %", *latency))
    columns = ["times its peak", "", "requests/s", "answers", "goodput/s", "of its peak", "p50 ms", "p99 ms"]
    print(f"\nRequests that come whether it keeps up or not (timeout: {TIMEOUT:g} s)\n")
    print(table([*columns, "p99 ms of 503s"], rows))


def show_manners(results: dict[str, list[Figures]]) -> None:
    """What else this project promises under such load."""
    rows = []
    for times in TIMES:
        for name in (name for name in results if name.startswith(OURS)):
            runs = results[name]
            says_when, failed = total(runs, (times, "says when")), total(runs, (times, "livez failed"))
            told = f"{says_when['with']:,} of {says_when['503']:,}"
            rows.append((times, name, middle(runs, (times, "livez")), failed["failed"], told))
    columns = ["times its peak", "", "p99 ms of /livez", "of these failed", "503s with Retry-After"]
    print("\nMeanwhile\n\n" + table(columns, rows))
    late = max(middle(runs, (times, "late")) for runs in results.values() for times in TIMES)
    others = ", ".join(f"{middle(runs, 'others'):.2f} ({name})" for name, runs in results.items())
    print(f"\nRequests were sent at most {late:.1f} ms late (p99). Cores that other programs took meanwhile: {others}.")


def main() -> None:
    """Let the contenders take turns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (default: %(default)g)")
    parser.add_argument("--task", default="sample")
    parser.add_argument("--case", default=CASES[0], choices=CASES)
    parser.add_argument("--peers", nargs="*", default=[*SERVICES][1:], choices=[*SERVICES][1:])
    parser.add_argument("--port", type=int, default=8300, help="the first of as many as contenders")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        task, folder = options.contender
        serve(lambda: bare(task, Path(folder)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Told to end."))  # so that the service is ended too
    results: dict[str, list[Figures]] = {name: [] for name in (OURS, *options.peers)}
    with tempfile.TemporaryDirectory() as written:
        # In a process of its own: a page that this one shared with a service would make the service look smaller.
        writing = multiprocessing.get_context("spawn").Process(target=write_images, args=[Path(written) / "images"])
        writing.start()
        writing.join()
        folder = Path(written) / "images" / options.case
        for number in range(options.rounds):
            for place, (name, runs) in enumerate(results.items()):
                say(f"  round {number + 1} of {options.rounds}: {name}")
                runs.append(measure(name, number, options.port + place, folder, options))
    print(f"{options.case}: {machine()}; {options.rounds} rounds, {options.seconds:g} s a measurement.")
    show_starts(results)
    show_closed(results)
    show_open(results)
    show_manners(results)


if __name__ == "__main__":
    main()
