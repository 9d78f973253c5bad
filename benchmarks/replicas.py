"""How long until a second service answers with what the first was told to promote: both on one folder of artifacts.

Promotes two copies of a task's champion in turn, asks the second service for predictions without a pause until one
names the promoted version, and prints the median and the longest of the times from the request to that answer.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

from measuring import ROOT, machine, table
from service import running

TOKEN = "a-token-of-enough-characters"


def post(url: str, body: bytes) -> dict:
    """The JSON answered to a POST with the token."""
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def seconds_until_seen(first: str, second: str, version: str, image: bytes) -> float:
    """From the request for the promotion until the second service answers with the version."""
    started = time.monotonic()
    post(f"{first}/models/{version}/promote", b"")
    while post(f"{second}/predict?log=false", image)["model"] != version:
        pass
    return time.monotonic() - started


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="sample")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--log-url", default="", help="PostgreSQL (default: a SQLite file)")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from lib import registry

    image = next((ROOT / "data" / "sample" / "Bag").iterdir()).read_bytes()
    with tempfile.TemporaryDirectory() as temporary:
        registry.export(options.task, Path(temporary))
        folder = next((Path(temporary) / options.task / "models").iterdir())
        names = [folder.name, "2999-other"]
        shutil.copytree(folder, folder.with_name(names[1]))
        shared = {
            "ARTIFACTS_DIR": temporary, "PRODUCTION_DIR": f"{temporary}/production", "SERVE_TOKEN": TOKEN,
            "LOG_URL": options.log_url,
        }  # fmt: skip
        with running(options.task, 8011, **shared), running(options.task, 8012, **shared):
            addresses = "http://127.0.0.1:8011", "http://127.0.0.1:8012"
            found = [seconds_until_seen(*addresses, names[(k + 1) % 2], image) for k in range(options.rounds)]
    print(machine(), "\n")
    print(table(["promotions", "median, s", "longest, s"], [(len(found), median(found), max(found))]))


if __name__ == "__main__":
    main()
