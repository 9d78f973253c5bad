"""Which version serves and which one waits: a pointer that is replaced atomically, how it came so, and the way back."""

import shutil
from collections.abc import Callable

from lib.errors import ArtifactError
from lib.provenance import utc_now
from lib.registry.store import REQUIRED_FILES, Version, latest, models_dir, read_checksums, verify, versions
from lib.storage import display_path, lock, read_json, task_dir, temporary_prefix, write_json

DEPLOYMENT_FILE = "deployment.json"
LOCK_FILE = ".deployment.lock"
KEPT = 20  # earlier champions that can be gone back to, and changes that are remembered
NOBODY = {"champion": None, "challenger": None, "challenger_share": 0.0, "experiment": None, "previous": [],
          "history": []}  # fmt: skip

NO_EXPERIMENT = {"experiment": None, "challenger_share": 0.0}  # nor does one outlive its champion


def deployment(task: str) -> dict:
    """The pointer that the service follows: champion, challenger, challenger_share, and how it came so.

    `previous` has earlier champions, `history` what was done: action, version, by, why and time; the latest last.
    Before a promotion there is no champion. ArtifactError if the file is damaged.
    """
    path = task_dir(task) / DEPLOYMENT_FILE
    found = read_json(path) if path.exists() else {}
    whole = NOBODY | found if isinstance(found, dict) else {}
    names = [whole.get("champion"), whole.get("challenger")]
    previous, history = whole.get("previous"), whole.get("history")
    if not (whole and all(isinstance(name, str | None) for name in names) and isinstance(previous, list)
            and all(isinstance(name, str) for name in previous) and isinstance(history, list)
            and isinstance(whole["experiment"], dict | None)):  # fmt: skip
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


def promote(task: str, name: str, *, by: str = "", why: str = "", expected: dict | None = None) -> None:
    """Make a version the champion, by atomically replacing the pointer; a challenger that is promoted waits no more.

    Parameters
    ----------
    task, name : str
    by, why : str
        Who decided it and for what reason, kept in the history.
    expected : dict, optional
        What the pointer must still say, such as {"champion": ..., "experiment": None}: else the decision was made for
        another state of things, and ArtifactError is raised.

    Raises
    ------
    ArtifactError
        As `evaluated` does.
    LockedError
        If another process is changing the pointer.
    """
    with lock(task_dir(task) / LOCK_FILE):
        evaluated(task, name)
        try:
            now = deployment(task)
        except ArtifactError:
            now = NOBODY  # what is damaged is written anew
        _check(now, expected)
        earlier = [version for version in now["previous"] if version != name]
        if now["champion"] not in (None, name):
            earlier.append(now["champion"])
        waits = {"challenger": None} if now["challenger"] == name else {}
        after = now | NO_EXPERIMENT | waits | {"champion": name, "previous": earlier[-KEPT:]}
        _write(task, after, "promoted", name, by, why)


def challenge(
    task: str, name: str | None, *, by: str = "", why: str = "", expected: dict | None = None
) -> None:  # fmt: skip
    """Let a version wait beside the champion, or none; it gets no traffic until an experiment gives it some.

    Raises as `promote` does.
    """
    with lock(task_dir(task) / LOCK_FILE):
        if name is not None:
            evaluated(task, name)
        now = deployment(task)
        _check(now, expected)
        if name != now["challenger"]:
            action, about = ("challenger", name) if name else ("dismissed", now["challenger"])
            _write(task, now | NO_EXPERIMENT | {"challenger": name}, action, about, by, why)


def begin_experiment(task: str, challenger: str, share: float, experiment: dict, *, by: str = "") -> None:
    """Let a challenger take part in the traffic; `experiment` is what `lib.experiments` reads. Raises as `promote`."""
    with lock(task_dir(task) / LOCK_FILE):
        evaluated(task, challenger)
        now = deployment(task)
        _check(now, {"champion": experiment["champion"]})
        after = {"challenger": challenger, "challenger_share": share, "experiment": experiment}
        _write(task, now | after, "experiment began", challenger, by, "")


def end_experiment(task: str, *, by: str = "", why: str = "") -> None:
    """Give all traffic to the champion again; the challenger waits. LockedError as `promote`."""
    with lock(task_dir(task) / LOCK_FILE):
        now = deployment(task)
        if now["experiment"] is not None:
            _write(task, now | NO_EXPERIMENT, "experiment ended", now["challenger"], by, why)


def rollback(
    task: str, check: Callable[[Version], object] = lambda version: None, *, by: str = "", why: str = ""
) -> str:
    """Make the champion before this one the champion again; its name. Damaged ones on the way are passed over.

    Parameters
    ----------
    task : str
    check : callable
        Tries a version that is whole; raises ArtifactError if it cannot serve.
    by, why : str
        As of `promote`.

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
            after = now | NO_EXPERIMENT | {"champion": name, "previous": now["previous"][:place]}
            _write(task, after, "rolled back to", name, by, why)
            return name
    raise ArtifactError(f"Task {task!r} has no earlier champion to go back to.")


def _check(now: dict, expected: dict | None) -> None:
    """Refuse to act where the pointer has changed since a decision was made."""
    changed = [name for name, value in (expected or {}).items() if now[name] != value]
    if changed:
        raise ArtifactError(
            f"Meanwhile another {' and '.join(changed)} was set; what was decided does not fit any more."
        )


def _write(task: str, pointer: dict, action: str, version: str, by: str, why: str) -> None:
    """Replace the pointer, and note in it what was done."""
    entry = {"action": action, "version": version, "by": by, "why": why, "time": utc_now()}
    history = [*pointer["history"], entry][-5 * KEPT :]
    write_json(task_dir(task) / DEPLOYMENT_FILE, pointer | {"history": history})


def prune(task: str, keep: int) -> list[str]:
    """Delete all but the newest `keep` versions, those that serve or wait or can be gone back to, and what 03 left.

    Returns
    -------
    list of str
        Names of the deleted ones.

    Raises
    ------
    LockedError
        If another process is changing the pointer.
    """
    with lock(task_dir(task) / LOCK_FILE):
        now, names = deployment(task), versions(task)
        needed = {now["champion"], now["challenger"], *now["previous"][-keep:], *names[-keep:], _trained(task)}
        gone = [name for name in names if name not in needed]
        for name in gone:
            hidden = models_dir(task) / f"{temporary_prefix()}{name}"  # at once no version; what is left is swept away
            (models_dir(task) / name).rename(hidden)
            shutil.rmtree(hidden)
    return gone


def _trained(task: str) -> str:
    """Name of the version that evaluation would take; "" where there is none, or it is damaged."""
    try:
        return latest(task).name
    except ArtifactError:
        return ""
