"""Run one notebook through papermill, streaming its progress, and tell the truth about how it ended."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets.config import Config

from lib.errors import StageError
from lib.progress import bars_to
from lib.storage import full_disk_told, sweep_temporary, temporary_prefix

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_TIMEOUT = 12 * 3600  # seconds; papermill's own default is none


def run_notebook(source: Path, target: Path, parameters: dict[str, Any]) -> "NotebookNode":
    """Execute a notebook in its own folder, as JupyterLab would.

    Parameters
    ----------
    source : Path
        The notebook; it is not changed.
    target : Path
        Where the executed notebook goes; after a failure it holds what had run.
    parameters : dict
        Checked before; injected behind the parameters cell.

    Returns
    -------
    NotebookNode
        The executed notebook.

    Raises
    ------
    StageError
        If a cell raises, the kernel dies, or a cell takes longer than CELL_TIMEOUT.
    DiskFullError
        If the executed notebook could not be written.
    """
    import nbformat  # here, as seconds that a run with nothing to do need not spend
    import papermill
    from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_temporary(target.parent)
    partial = target.with_name(f"{temporary_prefix()}{target.name}")
    try:
        with full_disk_told(target.parent), _numbered_cells(), bars_to(sys.stderr) as stderr_file:
            papermill.execute_notebook(
                source,
                partial,
                parameters=parameters,
                kernel_name="python3",
                language="python",
                cwd=source.parent,
                progress_bar=False,
                stderr_file=stderr_file,
                start_timeout=120,
                execution_timeout=CELL_TIMEOUT,
                coalesce_streams=True,
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            )
    except PapermillExecutionError as error:
        raise StageError(f"{source.name}: {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise StageError(f"{source.name}: its kernel died, as when memory runs out ({error})") from error
    except (CellTimeoutError, CellControlSignal) as error:
        raise StageError(f"{source.name}: a cell took longer than {CELL_TIMEOUT} seconds") from error
    finally:
        if partial.exists():
            partial.replace(target)
    return nbformat.read(target, as_version=4)


@contextmanager
def _numbered_cells() -> Iterator[None]:
    """Print a line a heading while papermill runs: which section of how many is at work."""
    from papermill.engines import NotebookExecutionManager as Manager

    original = Manager.cell_start

    def cell_start(self: Any, cell: "NotebookNode", cell_index: int | None = None, **kwargs: Any) -> None:
        headings = [i for i, c in enumerate(self.nb.cells) if c.cell_type == "markdown" and c.source.startswith("## ")]
        if cell_index in headings:
            heading = cell.source.splitlines()[0].removeprefix("## ")
            print(f"  [{headings.index(cell_index) + 1}/{len(headings)}] {heading}", file=sys.stderr, flush=True)
        original(self, cell, cell_index, **kwargs)

    Manager.cell_start = cell_start
    try:
        yield
    finally:
        Manager.cell_start = original
