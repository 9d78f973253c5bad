"""A copy of what a task's service was told, made beside it: the log as of one moment, and the images."""

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from lib.errors import LogError
from lib.production.schema import default_url
from lib.storage import atomic_path, display_path, production_dir, write_bytes


def back_up(task: str, folder: Path) -> tuple[bool, int]:
    """Copy data/production/<task>/ into a folder; what an earlier copy brought there is not copied again.

    The database comes first: each of its rows then has its image, unless that was deleted for its age meanwhile.

    Parameters
    ----------
    task : str
    folder : Path
        Gets a folder of the task's name, laid out as data/production/ is.

    Returns
    -------
    has_log : bool
        False where the log is a database elsewhere, which has its own tools.
    n_files : int
        Images and other files that were copied.

    Raises
    ------
    LogError
        If the task has no log, or it cannot be read.
    """
    source, target = production_dir(task), folder / task
    url = make_url(default_url(task))
    has_log = url.get_backend_name() == "sqlite"
    if has_log:
        _copy_database(Path(str(url.database)), target / "production.db")
    n_files = 0
    for path in sorted(source.rglob("*")):
        own = target / path.relative_to(source)
        if path.is_file() and not path.name.startswith((".", "production.db")) and not _is_copied(path, own):
            with contextlib.suppress(FileNotFoundError):  # it has just been deleted for its age
                write_bytes(own, path.read_bytes())
                n_files += 1
    return has_log, n_files


def _is_copied(path: Path, own: Path) -> bool:
    """Whether an image is there, which never changes, or another file as it is now."""
    return own.exists() and (path.parent.parent.name == "images" or own.read_bytes() == path.read_bytes())


def _copy_database(path: Path, target: Path) -> None:
    """Copy a SQLite file as it is at one moment, while others write to it."""
    if not path.exists():
        raise LogError(f"There is no log at {display_path(path)}; nobody has asked the service anything yet.")
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            atomic_path(target) as temporary,
            closing(sqlite3.connect(temporary)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise LogError(f"The log cannot be copied: {error}.") from error
