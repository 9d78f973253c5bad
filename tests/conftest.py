"""Fixtures: every test has its own artifacts and reports folders, and no way to the internet."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from debian import program
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from processes import free_port, running

from lib.backbones import LITE0, Choice, load_backbone
from lib.inference import OnnxEncoder
from lib.storage import PROJECT_ROOT

NO_NETWORK = "http://127.0.0.1:9"  # a proxy that refuses at once
SAMPLE = PROJECT_ROOT / "data" / "sample"
TINY_CLASSES = ("Ankle boot", "Bag", "Trouser")


def set_own_folders(environment: dict[str, str], folder: Path) -> None:
    """Point an environment at a folder of its own: artifacts, reports, home, torch cache; no network."""
    environment["ARTIFACTS_DIR"] = str(folder / "artifacts")
    environment["REPORTS_DIR"] = str(folder / "reports")
    environment["PRODUCTION_DIR"] = str(folder / "production")
    environment["TORCH_HOME"] = str(folder / "torch")
    environment |= dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), NO_NETWORK)
    environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the project or reads what a run left there."""
    environment: dict[str, str] = {}
    set_own_folders(environment, tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


class Clock:
    """A clock that is put forward by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Seconds that only the test lets pass."""
    return Clock()


@pytest.fixture
def save_image(tmp_path: Path) -> Callable[..., Path]:
    """Write an image of seeded noise: save_image("class/name.png", seed=3, size=(40, 30), **options of Pillow)."""

    def save(name: str, *, seed: int = 0, size: tuple[int, int] = (40, 30), **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    return save


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder that `fill` and `manifest_csv` write into."""
    return tmp_path / "data"


@pytest.fixture
def fill(save_image: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Write n different images into a folder below data/: fill("cat", 5)."""
    made = iter(range(10_000))

    def fill(folder: str, n: int) -> list[Path]:
        return [save_image(f"data/{folder}/{i}.png", seed=next(made), size=(8, 6)) for i in range(n)]

    return fill


@pytest.fixture
def manifest_csv(data: Path) -> Callable[..., Path]:
    """Write data/list.csv from lines and return its path."""

    def write(*lines: str, encoding: str = "utf-8") -> Path:
        data.mkdir(exist_ok=True)
        (data / "list.csv").write_bytes("\n".join(lines).encode(encoding))
        return data / "list.csv"

    return write


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once a session."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def lite0(shared_folder: Path) -> OnnxEncoder:
    """The real EfficientNet-Lite0, exported once."""
    return load_backbone(Choice(LITE0, "the tests asked for it"), folder=shared_folder / "artifacts" / "backbones")


@pytest.fixture(scope="session")
def tiny_folder(shared_folder: Path) -> Path:
    """Three classes of 24 sample images each, and a text file that is refused."""
    folder = shared_folder / "tiny"
    for label in TINY_CLASSES:
        (folder / label).mkdir(parents=True)
        for path in sorted((SAMPLE / label).iterdir())[:24]:
            shutil.copy(path, folder / label)
    (folder / "Bag" / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def shared_environment(shared_folder: Path) -> dict[str, str]:
    """Environment of processes that share what is made once a session."""
    environment = dict(os.environ)
    set_own_folders(environment, shared_folder)
    return environment


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server that is started for the tests, Debian's, as its own user where we are root."""
    initdb = Path(program("postgresql", "/usr/lib/postgresql/*/bin/initdb"))
    # not below pytest's folder, which no other user may enter
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
    prefix = []
    if os.geteuid() == 0:
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
    data, log = folder / "data", folder / "log"
    subprocess.run([*prefix, initdb, "-D", data, "-U", "tester", "-A", "trust"], check=True, capture_output=True)
    command = [*prefix, initdb.with_name("postgres"), "-D", data, "-p", str(port), "-k", folder,
               "-c", "listen_addresses=127.0.0.1"]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    while "ready to accept connections" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--use-fake-device-for-media-stream"]
        opened = playwright.chromium.launch(executable_path=program("chromium", *CHROMIUM), args=options)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file without a network, or a page of a service: open_page(target, width=1000, height=900, **options).

    What the browser complains of fails the test, unless it begins with what is `expected`; options are those of a
    browser's context.
    """
    contexts, complaints = [], []

    def listen(message: ConsoleMessage, expected: str) -> None:
        if message.type == "error" and not (expected and message.text.startswith(expected)):
            complaints.append(message.text)

    def open_target(
        target: Path | str, *, width: int = 1000, height: int = 900, expected: str = "", **options: object
    ) -> Page:
        is_file = isinstance(target, Path)
        context = browser.new_context(offline=is_file, viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: listen(message, expected))
        page.goto(target.as_uri() if is_file else target)
        return page

    yield open_target
    for context in contexts:
        context.close()
    assert complaints == []


RunPipeline = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def run_pipeline(shared_environment: dict[str, str]) -> RunPipeline:
    """Run the command line in a process of its own: run_pipeline("-p", "seed", "3", environment={...})."""

    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "lib.pipeline", *arguments],
            cwd=PROJECT_ROOT,
            env=shared_environment | (environment or {}),
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture(scope="session")
def tiny_run(run_pipeline: RunPipeline, tiny_folder: Path, lite0: OnnxEncoder) -> subprocess.CompletedProcess:
    """A whole pipeline run on the tiny folder, task "tiny", made once."""
    result = run_pipeline("-p", "data_dir", str(tiny_folder), "-p", "backbone", LITE0)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture
def tiny_task(tiny_run: subprocess.CompletedProcess, shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The task of `tiny_run`, with this test's folders pointed at its artifacts and reports."""
    monkeypatch.setenv("ARTIFACTS_DIR", str(shared_folder / "artifacts"))
    monkeypatch.setenv("REPORTS_DIR", str(shared_folder / "reports"))
    return "tiny"


@pytest.fixture
def server(tiny_run: object, shared_environment: dict[str, str]) -> Iterator[str]:
    """A real process of serve.py: its address. It is ended with SIGTERM and must exit 0."""
    with running(shared_environment) as service:
        yield service.address
