"""Where a number comes from: commit, versions, data, parameters, machine and time."""

import getpass
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from lib.environment import pins
from lib.storage import PROJECT_ROOT, sha256_file

REQUIREMENTS = PROJECT_ROOT / "requirements.txt"


def utc_now() -> str:
    """The time in UTC, to the second, as 2026-11-23T17:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user() -> str:
    """Who runs this; in a container whose user has no name, its number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def commit() -> str:
    """Short hash of the checked-out commit, "-dirty" behind it with uncommitted changes; "unknown" outside git."""
    described = _git("describe", "--always", "--dirty", "--abbrev=10", "--match=")
    return described or "unknown"


def _git(*arguments: str) -> str:
    """Output of a git command in the project, "" where git or the repository is missing."""
    try:
        result = subprocess.run(
            ["git", "-C", str(PROJECT_ROOT), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


def versions() -> dict[str, str]:
    """Python's version and that of every package the requirements pin."""
    found = {"python": platform.python_version()}
    for name in pins(REQUIREMENTS) if REQUIREMENTS.exists() else ():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def library_hash() -> str:
    """SHA-256 over every file of lib/ that decides behaviour, by name and content."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT_ROOT / "lib").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(PROJECT_ROOT)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def processor() -> str:
    """Model of the CPU, as the operating system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        match = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def provenance() -> dict:
    """Facts of this process that every artifact and report names."""
    return {
        "commit": commit(),
        "created": utc_now(),
        "device": f"CPU, {os.cpu_count()} cores, {processor()}",
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
