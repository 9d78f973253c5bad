"""Build an image where no container engine runs, with Debian's buildah, start what came out, and try it.

    python deploy/try_image.py                     # as root on Debian: apt-get install buildah debootstrap
    python deploy/try_image.py --target reporting

Downloads a Debian and the packages, builds the Dockerfile on it and runs the image's own command as its own user, on
a root that cannot be written, without new privileges, with a model of this checkout (./run_pipeline.sh made it) as
volume and once more baked in: healthy by its own check, the smoke test, SIGTERM while it works, exit status 0.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lib import __version__

ROOT = Path(__file__).resolve().parent.parent
BASE = "localhost/debian-python:bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
UNUSED = ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"]
NAME = "localhost/image-classification-pipeline"
OF_THE_HOST = ["/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"]  # a package index of one's own, while building
SIZES = {"serve": 600, "reporting": 1200, "pipeline": 2500}  # at most, MB
IMAGE = ROOT / "data" / "sample" / "Bag" / "00023.png"
READY = 60  # seconds


def buildah(*arguments: str | Path) -> str:
    """What a command of buildah prints; raises CalledProcessError where it fails, and its own words are on stderr."""
    command = ["buildah", *map(str, arguments)]
    settings = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    return subprocess.run(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def container(image: str) -> Iterator[Path]:
    """File system of a new container, which is gone when the block ends."""
    name = buildah("from", image)
    try:
        yield Path(buildah("mount", name))
    finally:
        buildah("rm", name)


def make_base() -> None:
    """A Debian with Python, as an image; made once."""
    if buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        return
    name = buildah("from", "scratch")
    folder = Path(buildah("mount", name))
    debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", folder]
    subprocess.run(debootstrap, stdout=subprocess.DEVNULL, check=True)
    for part in UNUSED:
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
    buildah("commit", "--quiet", "--rm", name, BASE)


def build(target: str, tag: str, **arguments: str) -> float:
    """Build a target; its size in MB, as buildah counts it."""
    values = {"BASE_IMAGE": BASE, "VERSION": __version__} | arguments
    options = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
    for path in filter(os.path.exists, OF_THE_HOST):
        options += ["--volume", f"{path}:{path}:ro"]
    buildah("build", "--layers", "--format", "docker", *options, "--target", target, "--tag", tag, ".")
    size, unit = json.loads(buildah("images", "--json", tag))[0]["size"].split()
    return float(size) * {"MB": 1, "GB": 1000}[unit]


class Runner:
    """Runs an image's commands as its user, on a root that cannot be written and without new privileges.

    Parameters
    ----------
    image : str
    volumes : dict of str to Path
        Path in the image -> folder of this machine; its user gets it.
    """

    def __init__(self, image: str, volumes: dict[str, Path]):
        self.image, self.volumes = image, volumes
        self.config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
        user = int(self.config["User"].split(":")[0])
        for place in volumes.values():
            for path in (place, *place.rglob("*")):
                os.chown(path, user, user)

    def start(self, folder: Path, command: list[str], **options: int) -> subprocess.Popen:
        """Start a command in the file system of a container; signals reach it itself, options are those of Popen."""
        mounts = [f"mount --bind {folder} {folder}", f"mount -t tmpfs tmpfs {folder}/tmp"]
        mounts += [f"mount --bind {place} {folder}{path}" for path, place in self.volumes.items()]
        mounts += [f"mount -t proc proc {folder}/proc", f"mount --rbind /dev {folder}/dev"]
        mounts += [f"mount -o remount,ro,bind {folder}"]
        inside = f"cd {self.config['WorkingDir']} && exec {shlex.join(['env', '-i', *self.config['Env'], *command])}"
        chroot = [
            "setpriv",
            "--no-new-privs",
            "chroot",
            f"--userspec={self.config['User']}",
            str(folder),
            "sh",
            "-c",
            inside,
        ]
        script = f"{' && '.join(mounts)}; exec {shlex.join(chroot)}"
        return subprocess.Popen(["unshare", "--mount", "sh", "-ec", script], **options)

    def run(self, folder: Path, command: list[str], **options: int) -> int:
        """Exit status of a command."""
        return self.start(folder, command, **options).wait()


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of the loopback."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def try_serve(runner: Runner) -> None:
    """Start the service, wait until it is healthy, run the smoke test with the drain; raises AssertionError."""
    assert is_free(8000), "Port 8000 is taken; the image's health check asks there."
    _, *check = runner.config["Healthcheck"]["Test"]
    with container(runner.image) as folder:
        assert runner.run(folder, check, stderr=subprocess.DEVNULL), "The health check is content though nothing runs."
        service = runner.start(folder, runner.config["Cmd"])
        try:
            until = time.monotonic() + READY
            while runner.run(folder, check, stderr=subprocess.DEVNULL):
                assert service.poll() is None, f"The service ended with {service.returncode}."
                assert time.monotonic() < until, f"It was not healthy within {READY} s."
                time.sleep(0.2)
            print("healthy by its own check")
            assert runner.run(folder, ["sh", "-c", "! touch /app/x /opt/x 2> /dev/null"]) == 0, (
                "The root can be written."
            )
            command = [sys.executable, ROOT / "deploy" / "smoke.py", "http://127.0.0.1:8000", IMAGE, "--label", "Bag"]
            smoke = subprocess.run([*command, "--stop", f"kill -TERM {service.pid}"], check=False)
            assert smoke.returncode == 0, "The smoke test failed."
            assert service.wait(timeout=40) == 0, f"Told to stop, it ended with {service.returncode}."
            print("stopped with exit status 0")
        finally:
            service.kill()
            service.wait()


def try_command(runner: Runner, command: list[str], report: str) -> None:
    """Run a command of the image that makes a report; raises AssertionError."""
    with container(runner.image) as folder:
        status = runner.run(folder, [*(runner.config["Entrypoint"] or []), *command])
        assert status == 0, f"{shlex.join(command)} ended with {status}."
    assert list(runner.volumes["/app/reports"].rglob(report)), f"No {report} was made."
    print(f"made {report}")


def try_target(target: str, task: str, **arguments: str) -> None:
    """Build one target, with more build arguments, and try it."""
    tag = f"{NAME}:{target}"
    size = build(target, tag, **arguments)
    print(f"{target}: {size:.0f} MB")
    assert size <= SIZES[target], f"{size:.0f} MB are more than {SIZES[target]}."
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: Path(temporary) / name for name in ("artifacts", "production", "reports")}
        Path(temporary).chmod(0o755)
        if target == "serve":
            export = [sys.executable, "-m", "lib.registry", "export", "--task", task, folders["artifacts"]]
            subprocess.run(export, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        else:
            shutil.copytree(os.environ.get("ARTIFACTS_DIR", ROOT / "artifacts"), folders["artifacts"])
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        places = {"artifacts": "/app/artifacts", "production": "/app/data/production", "reports": "/app/reports"}
        runner = Runner(tag, {places[name]: folder for name, folder in folders.items()})
        if target == "reporting":
            try_command(runner, ["python", "-m", "lib.monitoring", "--task", task], "05_monitoring.html")
        elif target == "pipeline":
            try_command(runner, ["--task", "made-in-it"], "04_evaluation.html")
        else:
            try_serve(runner)
            with tempfile.TemporaryDirectory(dir=ROOT, prefix="model-") as inside:
                shutil.copytree(folders["artifacts"], Path(inside), dirs_exist_ok=True)
                print(f"with its model baked in: {build(target, f'{tag}-{task}', MODEL=Path(inside).name):.0f} MB")
            try_serve(Runner(f"{tag}-{task}", {}))


def main() -> int:
    """Build and try; 1 and a sentence where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=list(SIZES), default="serve", help="which image (default: %(default)s)")
    parser.add_argument("--task", default="sample", help="whose model it is tried with (default: %(default)s)")
    parser.add_argument("--torch-index", metavar="URL", help="where torch comes from (default: the Dockerfile's)")
    options = parser.parse_args()
    arguments = {"TORCH_INDEX": options.torch_index} if options.torch_index else {}
    if missing := [name for name in ("buildah", "debootstrap", "unshare", "setpriv") if not shutil.which(name)]:
        print(
            f"{', '.join(missing)} missing; run: sudo apt-get install buildah debootstrap util-linux", file=sys.stderr
        )
        return 1
    if os.geteuid():
        print("Only root may mount the image's file system; run this with sudo.", file=sys.stderr)
        return 1
    try:
        make_base()
        try_target(options.target, options.task, **arguments)
    except (AssertionError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
