"""Whether a service that was just deployed does what it is for: it is ready, answers, and lets go of nothing accepted.

    python deploy/smoke.py http://127.0.0.1:8000 data/sample/Bag/00023.png --label Bag
    python deploy/smoke.py http://127.0.0.1:8000 data/sample/Bag/00023.png --stop "docker stop --time 40 serve"

Needs Python and nothing else, so it runs wherever the service can be reached. PREDICT_TOKEN is sent where it is set.
"""

import argparse
import http.client
import json
import os
import shlex
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

IN_FLIGHT = 4  # requests at work when the service is told to stop
FILES, BYTES = 60, 20_000_000  # images of each, and how large they may be together


class SmokeError(Exception):
    """What is not as it should be, as a sentence."""


def ask(url: str, body: bytes | None = None, kind: str = "application/octet-stream", timeout: float = 60) -> bytes:
    """Body of a 200; raises SmokeError for anything else."""
    headers = {"Content-Type": kind} if body is not None else {}
    if token := os.environ.get("PREDICT_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=timeout) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        raise SmokeError(f"{url} answers {error.code}: {error.read(300).decode(errors='replace')}") from None
    except (OSError, http.client.HTTPException) as error:
        raise SmokeError(f"{url} does not answer: {error}") from None


def wait_until_ready(url: str, seconds: float) -> None:
    """Return once /readyz is 200; raises SmokeError if that takes longer."""
    until = time.monotonic() + seconds
    while True:
        try:
            ask(f"{url}/readyz", timeout=5)
            return
        except SmokeError as error:
            if time.monotonic() > until:
                raise SmokeError(f"Not ready within {seconds:g} s. {error}") from None
            time.sleep(0.2)


def check_answers(url: str, image: bytes, label: str) -> str:
    """What the service says of an image, after looking at all that a client and a monitor use."""
    found = json.loads(ask(f"{url}/predict?log=false", image))["predictions"][0]
    if not 0 < found["probability"] <= 1 or (label and found["label"] != label):
        raise SmokeError(
            f"/predict answers {found['label']} with {found['probability']}, not {label or 'a probability'}."
        )
    if not json.loads(ask(f"{url}/v2/health/ready"))["ready"]:
        raise SmokeError("/v2/health/ready says that it is not.")
    for path, words in (("/", b"<title>"), ("/metrics", b"http_requests_total"), ("/openapi.json", b'"openapi"')):
        if words not in ask(url + path):
            raise SmokeError(f"{path} lacks {words.decode()}.")
    return f"{found['label']} ({found['probability']:.0%})"


def form(image: bytes) -> tuple[bytes, str, int]:
    """A multipart body with an image many times, its content type, and how many times."""
    n = max(1, min(FILES, BYTES // len(image)))
    part = b'--smoke\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + image + b"\r\n"
    return part * n + b"--smoke--\r\n", "multipart/form-data; boundary=smoke", n


def check_drain(url: str, image: bytes, stop: str) -> int:
    """Tell the service to stop while it works, and count the images that were answered all the same: all of them."""
    body, kind, n = form(image)
    answered, problems = [], []

    def predict() -> None:
        try:
            found = json.loads(ask(f"{url}/predict?log=false", body, kind))["predictions"]
            answered.append(sum("label" in one for one in found))
        except SmokeError as error:
            problems.append(str(error))

    workers = [threading.Thread(target=predict) for _ in range(IN_FLIGHT)]
    for worker in workers:
        worker.start()
    until = time.monotonic() + 30
    while f"requests_in_flight {IN_FLIGHT:.1f}".encode() not in ask(f"{url}/metrics"):
        if time.monotonic() > until or problems:
            raise SmokeError(f"{IN_FLIGHT} requests were never at work together. {' '.join(problems)}")
        time.sleep(0.01)
    if subprocess.run(shlex.split(stop), stdout=subprocess.DEVNULL, check=False).returncode:
        raise SmokeError(f"{stop!r} failed.")
    for worker in workers:
        worker.join()
    if problems or answered != [n] * IN_FLIGHT:
        raise SmokeError(f"Told to stop, it let go of accepted work: {problems or answered}")
    return sum(answered)


def main() -> int:
    """Run the checks; 1 and a sentence if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the service")
    parser.add_argument("image", type=Path, help="a file to ask about")
    parser.add_argument("--label", default="", help="that must be answered (default: any)")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="until ready (default: %(default)g)")
    parser.add_argument("--stop", default="", metavar="COMMAND", help="that stops it gracefully: check the drain too")
    options = parser.parse_args()
    url, image = options.url.rstrip("/"), options.image.read_bytes()
    try:
        started = time.monotonic()
        wait_until_ready(url, options.wait)
        print(f"ready after {time.monotonic() - started:.1f} s; {check_answers(url, image, options.label)}")
        if options.stop:
            print(f"{check_drain(url, image, options.stop)} images in flight were answered after it was told to stop")
    except SmokeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
