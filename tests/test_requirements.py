"""The lists of packages tell one truth: what the code imports, what is pinned, what images and conda install."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml

from lib.environment import pins
from lib.storage import PROJECT_ROOT

LISTS = [*sorted(PROJECT_ROOT.glob("requirements*.txt")), PROJECT_ROOT / "benchmarks" / "requirements.txt"]
LOCKS = {"serve": "requirements-serve.txt", "reporting": "requirements-reporting.txt", "pipeline": "requirements.txt"}
OWN = {
    "lib",
    "serve",
    *(path.stem for folder in ("tests", "benchmarks") for path in PROJECT_ROOT.glob(f"{folder}/**/*.py")),
}
DISTRIBUTIONS = importlib.metadata.packages_distributions()
TORCH = {"torch", "torchvision"}


def plain(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(source: str, *, in_functions: bool = True) -> Iterator[str]:
    """Top-level packages that a source imports, the project's own and Python's apart."""
    tree = ast.parse(source)
    for node in ast.walk(tree) if in_functions else tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        yield from {name.split(".")[0] for name in names} - OWN - set(sys.stdlib_module_names)


def unpinned(sources: Iterable[str], requirements: str, **options: bool) -> set[str]:
    """Packages that are imported and whose distribution a list does not pin."""
    known = {plain(name) for name in pins(PROJECT_ROOT / requirements)}
    found = {name for source in sources for name in imported(source, **options)}
    return {name for name in found if not {plain(one) for one in DISTRIBUTIONS.get(name, [name])} & known}


def code(*patterns: str) -> list[str]:
    """Sources of the project's files."""
    return [path.read_text(encoding="utf-8") for pattern in patterns for path in PROJECT_ROOT.glob(pattern)]


def cells() -> list[str]:
    """The code of all notebooks."""
    notebooks = [nbformat.read(path, as_version=4) for path in PROJECT_ROOT.glob("notebooks/*.ipynb")]
    return [cell.source for notebook in notebooks for cell in notebook.cells if cell.cell_type == "code"]


def loaded_by(statement: str) -> list[str]:
    """Sources of the project's modules that a statement loads, in a process of its own."""
    script = f"""{statement}
import sys
print(*(m.__file__ for n, m in list(sys.modules.items()) if n.split(".")[0] in ("lib", "serve")), sep="\\n")"""
    found = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return [Path(name).read_text(encoding="utf-8") for name in found.stdout.split()]


@pytest.mark.parametrize(
    ("patterns", "requirements"),
    [
        (["lib/**/*.py", "serve.py"], "requirements-ray.txt"),
        (["tests/*.py"], "requirements-test.txt"),
        (["benchmarks/**/*.py"], "benchmarks/requirements.txt"),
    ],
)
def test_whatever_the_code_imports_is_pinned(patterns, requirements):
    sources = code(*patterns) + (cells() if "serve.py" in patterns else [])
    assert len(sources) > 10
    assert unpinned(sources, requirements) == set()


def test_an_import_that_nobody_pins_is_noticed():
    assert unpinned(["import numpy\nfrom somewhere.deep import x"], "requirements.txt") == {"somewhere"}


@pytest.mark.parametrize(
    ("statement", "requirements"),
    [
        ("import serve", "requirements-serve.txt"),  # test_serve runs it with nothing else
        ("import lib.monitoring.__main__, lib.learning.__main__, lib.pipeline", "requirements-reporting.txt"),
    ],
)
def test_what_a_program_loads_is_in_its_own_list(statement, requirements):
    sources = loaded_by(statement)
    assert len(sources) > 40
    assert unpinned(sources, requirements, in_functions=False) == set()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_every_line_of_a_list_is_a_pin_or_a_list_that_exists(path):
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    for line in filter(None, lines):
        if line.startswith("-r "):
            assert (path.parent / line.removeprefix("-r ")).is_file()
        else:
            assert line == "-e ." or re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line), line


def test_one_list_includes_the_next_and_no_package_is_pinned_twice():
    chain = ["serve", "reporting", "", "ray", "test"]
    files = [PROJECT_ROOT / f"requirements{'-' if name else ''}{name}.txt" for name in chain]
    assert {path.name for path in LISTS[:-1]} == {path.name for path in files}
    for inner, outer in pairwise(files):
        assert f"-r {inner.name}" in outer.read_text(encoding="utf-8").splitlines()
        assert set(pins(inner).items()) < set(pins(outer).items())
    own = [re.findall(r"^([\w.-]+)(?:\[\w+\])?==", path.read_text(encoding="utf-8"), re.MULTILINE) for path in files]
    names = [plain(name) for part in own for name in part]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["requirements-serve.txt", "requirements-reporting.txt"])
def test_no_torch_where_none_is_needed(name):
    asked = {plain(package) for package in pins(PROJECT_ROOT / name)}
    assert not asked & (TORCH | {"timm", "ray", "pytest", "jupyterlab"})
    assert ("pandas" in asked) == (name == "requirements-reporting.txt")


def test_conda_installs_the_same_and_a_python_that_the_project_allows():
    listed = yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, _, pip = listed["dependencies"]
    assert pip == {"pip": ["-r requirements-test.txt"]}
    assert python == "python=3.11"
    assert '>=3.11"' in (PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_pin_and_a_hash_for_each_package(name):
    text = (PROJECT_ROOT / "deploy" / f"{name}.lock").read_text(encoding="utf-8")
    entries = re.split(r"(?m)^(?=[\w])", text)[1:]
    locked = {}
    for entry in entries:
        head, *hashes = [line.strip(" \\") for line in entry.strip().splitlines()]
        package, version = head.split("==")
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes)
        locked[plain(package)] = version
    asked = {plain(package): version for package, version in pins(PROJECT_ROOT / LOCKS[name]).items()}
    assert {package: locked.get(package) for package in asked if package not in TORCH} == {
        package: version for package, version in asked.items() if package not in TORCH
    }
    assert not [package for package in locked if package in TORCH or package.startswith(("nvidia-", "cuda-", "triton"))]
