"""Files: where they are, how they are written so that a kill leaves the old or the new one, and their checksums."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import ArtifactError, DiskFullError, LockedError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

PROJECT_ROOT = Path(__file__).resolve().parent.parent
EMBEDDINGS, BACKBONES = "embeddings", "backbones"  # below artifacts/, for all tasks
RESERVED_TASKS = (EMBEDDINGS, BACKBONES)
HOST = re.sub(r"\W", "", platform.node()) or "host"
ABANDONED = 7 * 24 * 3600  # seconds after which a temporary file of another machine is taken for left behind


def project_path(path: str | Path) -> Path:
    """Expand ``~`` and anchor a relative path at the project root, wherever the caller stands."""
    return PROJECT_ROOT / Path(path).expanduser()


def artifacts_dir() -> Path:
    """Folder that code writes to; the environment variable ARTIFACTS_DIR moves it."""
    return project_path(os.environ.get("ARTIFACTS_DIR") or "artifacts")


def backbones_dir() -> Path:
    """Folder of exported backbones, each by its fingerprint."""
    return artifacts_dir() / BACKBONES


def reports_dir() -> Path:
    """Folder that people read from; the environment variable REPORTS_DIR moves it."""
    return project_path(os.environ.get("REPORTS_DIR") or "reports")


def production_dir(task: str) -> Path:
    """Folder of what a task's service was asked; the environment variable PRODUCTION_DIR moves data/production."""
    return project_path(os.environ.get("PRODUCTION_DIR") or "data/production") / task_dir(task).name


def task_name(text: str) -> str:
    """Turn a folder's name into a task name that is safe as a folder below artifacts/ and reports/.

    Raises
    ------
    ParameterError
        If nothing usable is left, or the name is taken by a folder that all tasks share.
    """
    name = re.sub(r"[^\w.-]+", "-", text).strip("-.")[:80]
    if not name or name in RESERVED_TASKS:
        raise ParameterError(
            f"{text!r} cannot be a task name; give another one with --task NAME (letters, digits, - _ .)."
        )
    return name


def task_dir(task: str) -> Path:
    """Folder of one task's artifacts; refuses a name that is not a plain folder name."""
    if task != task_name(task):
        raise ParameterError(f"Task {task!r} has characters a task name cannot have; {task_name(task)!r} would do.")
    return artifacts_dir() / task


def display_path(path: str | Path) -> str:
    """Path as shown to people: relative to the project root or the home folder, which is never spelled out."""
    path = Path(path)
    for base, prefix in ((PROJECT_ROOT, ""), (artifacts_dir().parent, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return path.as_posix()


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return sha256_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())


def fsync_dir(path: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_prefix() -> str:
    """How the names of this process's temporary files and folders begin, on storage that machines may share."""
    return f".tmp-{os.getpid()}-{HOST}-"


@contextlib.contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into one sentence; other errors pass.

    Raises
    ------
    DiskFullError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"The disk that holds {display_path(folder)} is full; free some space and run again: what was written so "
            "far is whole and will be used."
        ) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path` durably, on failure it is removed.

    Raises
    ------
    DiskFullError
        If there is no room; `path` is what it was.
    """
    with full_disk_told(path.parent), _replaced(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """`atomic_path` but for its errors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=temporary_prefix(), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_dir(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it becomes `path`, complete and durable, or is dropped if
    another process was first; on failure it is removed. Raises DiskFullError as `atomic_path` does."""
    with full_disk_told(path.parent), _new_folder(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """`atomic_dir` but for its errors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for inner in temporary.rglob("*"):
            if inner.is_dir():
                fsync_dir(inner)
            else:
                with inner.open("rb") as opened:
                    os.fsync(opened.fileno())
        fsync_dir(temporary)
        if not path.exists():
            temporary.rename(path)
            fsync_dir(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Whether a process of this machine still lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sweep_temporary(folder: Path) -> None:
    """Remove what killed processes left behind: temporary files and folders whose process is gone.

    Those of other machines, of which only age can tell, after a week.
    """
    for path in folder.glob(".tmp-*"):
        if not _is_left_behind(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_left_behind(path: Path) -> bool:
    """Whether nobody works on a temporary file any more."""
    _, pid, host, *_ = [*path.name.split("-"), "", ""]
    if host == HOST and pid.isdigit():
        return not is_running(int(pid))
    try:
        return time.time() - path.stat().st_mtime > ABANDONED
    except OSError:
        return False  # its owner has just put it in place


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically and durably."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinity are refused (ValueError), for JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ArtifactError
        If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{display_path(path)} is missing; run the stage that writes it first.") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{display_path(path)} is not valid JSON ({error}); delete it and run again.") from None


def write_csv(path: Path, columns: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file atomically, UTF-8, quoted where needed (names may hold commas, quotes and newlines)."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a data frame atomically, as .csv or .parquet by the path's suffix, without its index."""
    if path.suffix == ".csv":
        write_csv(path, list(table.columns), table.itertuples(index=False, name=None))
        return
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path: Path, *, text: Sequence[str] = ()) -> "pd.DataFrame":
    """Read what `write_table` wrote.

    Parameters
    ----------
    path : Path
    text : sequence of str
        Columns of a CSV that are text even where every value looks like a number, such as labels and file names.

    Raises
    ------
    ArtifactError
        If it is missing or damaged.
    """
    import pandas as pd

    if not path.exists():
        raise ArtifactError(f"{display_path(path)} is missing; run the stage that writes it first.")
    try:
        return (
            pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(text, str))
            if path.suffix == ".csv"
            else pd.read_parquet(path)
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{display_path(path)} is damaged ({error}); delete it and run again.") from None


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process, however it ends.

    Raises
    ------
    LockedError
        At once, if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(
                f"Another run (process {holder}) works on {path.parent.name!r}; wait for it or stop it."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
