"""A scripted month of production: what the model knows at its end, what it forgot, and whether anything was lost.

Eight of ten classes are trained; the service answers unseen images over HTTP and gets a label for each, one in twenty a
wrong one. Two more classes arrive through feedback, the light fades from day to day, and the worker that learns is
killed at random and begun again. At the end the champion is compared, on images that nobody has sent, with a model that
the pipeline trains on every image with its right label and in full light. Exits 1 where a goal is missed.

Works in a folder of its own. With --data any folder of at least ten class folders will do.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from measuring import ROOT, machine, table
from PIL import Image, ImageEnhance
from service import running

TASK = "month"
DAYS, KILLS = 30, 12
ARRIVALS = {8: 8, 9: 16}  # place of a class -> the day from which it is sent
WRONG = 0.05  # share of the labels
FADING = 0.35  # of the light, at the end of the month
NEW_GAP, OLD_LOSS = 0.02, 0.01  # goals


@dataclass
class Parts:
    """Images of each class: to train on first, to be sent in the course of the month, and to compare by at its end."""

    classes: list[str]
    first: dict[str, list[Path]] = field(default_factory=dict)
    sent: dict[str, list[Path]] = field(default_factory=dict)
    last: dict[str, list[Path]] = field(default_factory=dict)


def deal(data: Path, seed: int) -> Parts:
    """Deal the images of ten classes into three equal parts."""
    folders = sorted(path for path in data.iterdir() if path.is_dir())[:10]
    if len(folders) < 10:
        sys.exit(f"{data} has {len(folders)} class folders; ten are needed.")
    draw, parts = random.Random(seed), Parts([folder.name for folder in folders])
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        draw.shuffle(files)
        third = len(files) // 3
        parts.first[folder.name], parts.sent[folder.name] = files[:third], files[third : 2 * third]
        parts.last[folder.name] = files[2 * third :]
    return parts


def dimmed(path: Path, factor: float) -> bytes:
    """An image file with less light, as PNG."""
    buffer = io.BytesIO()
    ImageEnhance.Brightness(Image.open(path).convert("RGB")).enhance(factor).save(buffer, "PNG")
    return buffer.getvalue()


def calendar(parts: Parts, seed: int) -> list[list[tuple[Path, str]]]:
    """What is sent on each day: (file, right label)."""
    draw = random.Random(seed)
    days: list[list[tuple[Path, str]]] = [[] for _ in range(DAYS)]
    for place, label in enumerate(parts.classes):
        for file in parts.sent[label]:
            days[draw.randrange(ARRIVALS.get(place, 0), DAYS)].append((file, label))
    for day in days:
        draw.shuffle(day)
    return days


def run_pipeline(environment: dict[str, str], task: str, folder: Path) -> None:
    """Embed, train and evaluate a folder of class folders."""
    command = [sys.executable, "-m", "lib.pipeline", "embedding", "training", "evaluation", "--task", task]
    options = ["-p", "data_dir", str(folder), "-p", "robustness_images", "0", "-p", "backbone", "efficientnet_lite0"]
    subprocess.run([*command, *options], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def lay_out(folder: Path, images: dict[str, list[Path]]) -> Path:
    """Class folders with copies of these images."""
    for label, files in images.items():
        (folder / label).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / label)
    return folder


@dataclass
class Client:
    """Sends images and labels, and remembers what was acknowledged."""

    port: int
    predictions: list[str] = field(default_factory=list)
    labels: int = 0

    def ask(self, path: str, body: bytes, content_type: str) -> tuple[int, dict]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        return answer.status, told

    def send(self, image: bytes, label: str) -> None:
        """An image, and what it is said to show."""
        status, told = self.ask("/predict", image, "application/octet-stream")
        if status != 200 or not told["logged"]:
            return
        id = told["predictions"][0]["id"]
        self.predictions.append(id)
        status, _ = self.ask("/feedback", json.dumps({"id": id, "label": label}).encode(), "application/json")
        self.labels += status == 201


class Worker:
    """The process that learns; killed and begun again."""

    def __init__(self, environment: dict[str, str]):
        self.environment, self.n_killed = environment, 0
        self.process = self.begin()

    def begin(self) -> subprocess.Popen:
        often = ["--every", "0.5", "--cooldown", "5", "--labels", "40", "--keep", "1000"]
        command = [sys.executable, "-m", "lib.learning", "--task", TASK, "--watch", "--no-approval", *often]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.n_killed += 1
        self.process = self.begin()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


def live(client: Client, worker: Worker, days: list[list[tuple[Path, str]]], classes: list[str], seed: int) -> None:
    """The month."""
    draw = random.Random(seed)
    fatal = sorted(draw.sample(range(DAYS), KILLS))
    for number, day in enumerate(days):
        light = 1 - FADING * number / (DAYS - 1)
        for place, (file, label) in enumerate(day):
            said = draw.choice([other for other in classes if other != label]) if draw.random() < WRONG else label
            client.send(dimmed(file, light), said)
            if number in fatal and place == len(day) // 2:
                worker.kill()
        time.sleep(1.0)
        print(f"day {number + 1}: {len(day)} images, light {light:.2f}", file=sys.stderr)


def accuracies(version: object, images: dict[str, list[Path]], light: float = 1.0) -> dict[str, tuple[int, int]]:
    """(right, n) of each class."""
    from lib.prediction import Predictor

    predictor, found = Predictor.from_version(version), {}
    for label, files in images.items():
        answers = predictor.predict([dimmed(file, light) for file in files])
        found[label] = (sum(answer.label == label for answer in answers), len(files))
    return found


def mean(counts: dict[str, tuple[int, int]], labels: list[str]) -> float:
    """Accuracy over the images of some classes."""
    return sum(counts[label][0] for label in labels) / sum(counts[label][1] for label in labels)


def lost_rows(folder: Path, client: Client) -> tuple[int, int]:
    """Acknowledged predictions and labels that the log does not hold."""
    connection = sqlite3.connect(folder / "production" / TASK / "production.db")
    known = {row[0] for row in connection.execute("SELECT id FROM predictions")}
    n_labels = connection.execute("SELECT count(*) FROM feedback").fetchone()[0]
    connection.close()
    return len(set(client.predictions) - known), max(0, client.labels - n_labels)


def send_a_month(
    environment: dict[str, str], own: dict[str, str], parts: Parts, seed: int, port: int
) -> tuple[Client, int]:
    """Serve, send and learn for a month, and update once more: the client, and how often the worker was killed."""
    with running(TASK, port, **own):
        client, worker = Client(port), Worker(environment)
        live(client, worker, calendar(parts, seed), parts.classes, seed)
        worker.stop()
        last = [sys.executable, "-m", "lib.learning", "--task", TASK, "--no-approval", "--keep", "1000"]
        subprocess.run(last, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    return client, worker.n_killed


def scores_table(scores: dict[tuple[str, float], dict], parts: Parts, old: list[str], new: list[str]) -> str:
    """A row for each model and light."""
    groups = (parts.classes, old, *([label] for label in new))
    rows = [
        (f"{light:.2f}", told, *(100 * mean(counts, labels) for labels in groups))
        for (told, light), counts in scores.items()
    ]
    return table(["light", "model", "all ten, %", "old eight, %", *(f"{label}, %" for label in new)], rows)


def updates_table(updates: list[dict]) -> str:
    """A row for each update that the worker made or tried."""
    rows = [
        (entry.get("why", ""), entry["result"], "; ".join(entry.get("rules_broken", ()))) for entry in updates
    ]  # fmt: skip
    return table(["update set off by", "result", "rules broken"], rows)


def main() -> int:
    """Print the tables; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8768)
    options = parser.parse_args()
    parts = deal(options.data, options.seed)
    old, new = parts.classes[:8], parts.classes[8:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {"ARTIFACTS_DIR": f"{name}/artifacts", "REPORTS_DIR": f"{name}/reports",
               "PRODUCTION_DIR": f"{name}/production"}  # fmt: skip
        os.environ |= own
        environment = os.environ | own

        from lib import registry

        run_pipeline(environment, TASK, lay_out(folder / "first", {label: parts.first[label] for label in old}))
        before = registry.champion(TASK)
        client, n_killed = send_a_month(environment, own, parts, options.seed, options.port)
        after, pointer = registry.champion(TASK), registry.deployment(TASK)
        everything = {label: [*parts.first[label], *parts.sent[label]] for label in parts.classes}
        run_pipeline(environment, "clean", lay_out(folder / "clean", everything))
        models = {"at the beginning": before, "at the end": after, "trained clean": registry.champion("clean")}
        scores = {
            (told, light): accuracies(version, parts.last, light)
            for light in (1.0, 1 - FADING)
            for told, version in models.items()
        }
        promoted = [entry for entry in pointer["history"] if entry["action"] == "promoted"][1:]
        gates = [registry.verify(TASK, entry["version"]).lineage.get("gate") for entry in promoted]
        lost = lost_rows(folder, client)
        updates = json.loads((folder / "artifacts" / TASK / "learning.json").read_text())["updates"]
        known = after.card["classes"]
    start, end, best = (scores[told, 1.0] for told in models)
    short, forgotten = mean(best, parts.classes) - mean(end, parts.classes), mean(start, old) - mean(end, old)
    facts = [
        ("images sent and labels acknowledged", f"{len(client.predictions):,} and {client.labels:,}"),
        ("of these missing in the log", f"{lost[0]} and {lost[1]}"),
        ("worker killed", f"{n_killed} times"),
        ("updates promoted, refused", f"{len(promoted)}, {sum(entry['result'] == 'refused' for entry in updates)}"),
        ("promotions with their gate table", f"{sum(map(bool, gates))} of {len(gates)}"),
        ("classes known", f"{len(known)} of 10"),
        ("short of the model trained clean", f"{100 * short:+.1f} points"),
        ("lost on the old classes", f"{100 * forgotten:+.1f} points"),
        ("lost on them by the model trained clean", f"{100 * (mean(start, old) - mean(best, old)):+.1f} points"),
    ]
    print(f"{machine()}; {options.data.name}.\n\n{scores_table(scores, parts, old, new)}\n")
    print(f"{updates_table(updates)}\n\n{table(['what', 'figure'], facts)}")
    met = (
        set(known) == set(parts.classes),
        short <= NEW_GAP,
        forgotten <= OLD_LOSS,
        all(gates) and bool(gates),
        lost == (0, 0),
    )  # fmt: skip
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
