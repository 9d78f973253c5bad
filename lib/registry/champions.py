"""Which version serves: a pointer that is replaced atomically, and the way back."""

from collections.abc import Callable

from lib.errors import ArtifactError
from lib.registry.store import REQUIRED_FILES, Version, read_checksums, verify
from lib.storage import display_path, lock, read_json, task_dir, write_json

DEPLOYMENT_FILE = "deployment.json"
LOCK_FILE = ".deployment.lock"
KEPT = 20  # earlier champions that can be gone back to
NOBODY = {"champion": None, "challenger": None, "challenger_share": 0.0, "previous": []}


def deployment(task: str) -> dict:
    """The pointer that the service follows: champion, challenger, challenger_share, and previous champions.

    `previous` has the latest last. Before a promotion there is no champion. ArtifactError if the file is damaged.
    """
    path = task_dir(task) / DEPLOYMENT_FILE
    found = read_json(path) if path.exists() else {}
    whole = NOBODY | found if isinstance(found, dict) else {}
    names = [whole.get("champion"), whole.get("challenger")]
    previous = whole.get("previous")
    if not (whole and all(isinstance(name, str | None) for name in names) and isinstance(previous, list)
            and all(isinstance(name, str) for name in previous)):  # fmt: skip
        raise ArtifactError(f"{display_path(path)} does not say which version serves; promote one to write it anew.")
    return whole


def champion(task: str) -> Version:
    """The version that serves, verified; raises ArtifactError where none was promoted or it is damaged."""
    name = deployment(task)["champion"]
    if name is None:
        raise ArtifactError(f"Task {task!r} has no promoted model; run ./run_pipeline.sh --task {task}.")
    return verify(task, name)


def evaluated(task: str, name: str) -> Version:
    """A version that may serve: verified, and scored on the test part.

    Raises
    ------
    ArtifactError
        If the version is missing, damaged or not evaluated.
    """
    version = verify(task, name)
    if not set(REQUIRED_FILES) <= set(read_checksums(version.folder)) or "test" not in version.metrics:
        raise ArtifactError(f"Version {name} of {task!r} has not been evaluated; run the evaluation stage first.")
    return version


def promote(task: str, name: str) -> None:
    """Make a version the champion, by atomically replacing the pointer.

    Raises
    ------
    ArtifactError
        As `evaluated` does.
    LockedError
        If another process is changing the pointer.
    """
    evaluated(task, name)
    with lock(task_dir(task) / LOCK_FILE):
        try:
            now = deployment(task)
        except ArtifactError:
            now = NOBODY  # what is damaged is written anew
        earlier = [version for version in now["previous"] if version != name]
        if now["champion"] not in (None, name):
            earlier.append(now["champion"])
        write_json(task_dir(task) / DEPLOYMENT_FILE, now | {"champion": name, "previous": earlier[-KEPT:]})


def rollback(task: str, check: Callable[[Version], object] = lambda version: None) -> str:
    """Make the champion before this one the champion again; its name. Damaged ones on the way are passed over.

    Parameters
    ----------
    task : str
    check : callable
        Tries a version that is whole; raises ArtifactError if it cannot serve.

    Raises
    ------
    ArtifactError
        If there is none that could serve.
    LockedError
        If another process is changing the pointer.
    """
    with lock(task_dir(task) / LOCK_FILE):
        now = deployment(task)
        for place in reversed(range(len(now["previous"]))):
            name = now["previous"][place]
            try:
                check(evaluated(task, name))
            except ArtifactError:
                continue
            write_json(task_dir(task) / DEPLOYMENT_FILE, now | {"champion": name, "previous": now["previous"][:place]})
            return name
    raise ArtifactError(f"Task {task!r} has no earlier champion to go back to.")
