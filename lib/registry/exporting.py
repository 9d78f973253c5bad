"""What a service needs of a task, copied into a folder of its own: to carry to another host, or into an image."""

import shutil
from pathlib import Path

from lib.errors import ArtifactError
from lib.registry.champions import DEPLOYMENT_FILE, NOBODY, champion
from lib.storage import BACKBONES, atomic_dir, display_path, write_json


def export(task: str, folder: Path) -> Path:
    """Copy a task's champion and its backbone, laid out as artifacts/ is; other tasks in the folder stay.

    Parameters
    ----------
    task : str
    folder : Path
        Serves as ARTIFACTS_DIR, or as MODEL of the image.

    Returns
    -------
    Path
        Of the task's own folder, complete or not there.

    Raises
    ------
    ArtifactError
        If the task has no champion that is whole, its backbone is missing, or the folder has such a task already.
    """
    version = champion(task)
    backbone = version.export_folder
    target = folder / task
    if not backbone.is_dir():
        raise ArtifactError(f"{display_path(backbone)} is missing; run ./run_pipeline.sh --task {task}.")
    if target.exists():
        raise ArtifactError(f"{display_path(target)} exists; remove it, or export into another folder.")
    if not (folder / BACKBONES / version.export).exists():
        with atomic_dir(folder / BACKBONES / version.export) as temporary:
            shutil.copytree(backbone, temporary, dirs_exist_ok=True)
    with atomic_dir(target) as temporary:
        shutil.copytree(version.folder, temporary / "models" / version.name)
        write_json(temporary / DEPLOYMENT_FILE, NOBODY | {"champion": version.name})
    return target
