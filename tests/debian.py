"""Programs of Debian's packages that tests need: found, or installed where we are root, or asked for in one line."""

import glob
import os
import shutil
import subprocess

import pytest


def program(package: str, *places: str) -> str:
    """Path of the first of these programs (names, or patterns of paths) that is there.

    Root gets a missing one installed from its Debian package; anybody else is told the line to run, and the test fails.
    """
    found = _first(places)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        command = f"apt-get update -q && apt-get install -qy --no-install-recommends {package}"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, shell=True, check=False, timeout=600, env=environment)
        found = _first(places)
    if found is None:
        pytest.fail(f"{places[0]} is not installed; run: sudo apt-get install {package}")
    return found


def _first(places: tuple[str, ...]) -> str | None:
    """Path of the first program that exists; of several versions the newest."""
    for place in places:
        if found := shutil.which(place) or max(glob.glob(place), default=None):
            return found
    return None
