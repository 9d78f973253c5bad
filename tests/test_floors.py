"""Imports point down: the map of DESIGN, held by reading the code."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from lib.storage import PROJECT_ROOT

FLOORS = {
    "errors": 0,
    "environment": 0,
    "progress": 0,
    "memory": 0,
    "heartbeat": 0,
    "stylesheet": 0,
    "storage": 1,
    "settings": 1,
    "metrics": 1,
    "plots": 1,
    "exploration": 1,
    "neighbours": 1,
    "splits": 1,
    "decisions": 1,
    "parameters": 1,
    "admission": 1,
    "quota": 1,
    "images": 2,
    "torchvision_data": 2,
    "provenance": 2,
    "appearance": 3,
    "corrections": 2,
    "production": 2,
    "quality": 2,
    "conformal": 2,
    "selective": 2,
    "novelty": 2,
    "classifiers": 2,
    "probabilities": 3,
    "forgetting": 2,
    "labels": 3,
    "incremental": 6,
    "sequential": 1,
    "drift": 1,
    "clusters": 1,
    "acquisition": 1,
    "alarms": 2,
    "monitoring": 8,
    "experiments": 5,
    "comparison": 7,
    "learning": 8,
    "log_lines": 0,
    "estimates": 0,
    "command_line": 1,
    "reference": 3,
    "inference": 3,
    "sources": 3,
    "display": 3,
    "interactive": 4,
    "backbones": 4,
    "datasets": 4,
    "embeddings": 4,
    "registry": 4,
    "search": 4,
    "precision": 5,
    "training": 5,
    "summary": 5,
    "prediction": 5,
    "tasks": 6,
    "serving": 6,
    "robustness": 6,
    "cards": 6,
    "execution": 6,
    "inspection": 7,
    "evaluation": 7,
    "mistakes": 8,
    "gate": 7,
    "explanation": 7,
    "stages": 7,
    "web": 8,
    "reports": 8,
    "pipeline": 9,
}
LIB = PROJECT_ROOT / "lib"


def module_of(path: Path) -> str:
    """The floor plan's name of a file: the module, or the package it lies in."""
    return path.relative_to(LIB).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Modules of lib that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "lib" else [f"lib.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("lib.")}
    return found


def packages(nodes: Iterable[ast.AST]) -> set[str]:
    """Top-level packages that import statements among the nodes name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


HEAVY = {"torch", "torchvision", "timm"}
FILES = sorted(path for path in LIB.rglob("*.py") if path != LIB / "__init__.py")


def test_every_module_has_its_floor():
    assert {module_of(path) for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_imports_point_down(path):
    module = module_of(path)
    too_high = {name for name in imported_modules(path) - {module} if FLOORS[name] >= FLOORS[module]}
    assert not too_high


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_torch_is_imported_in_functions_of_two_modules_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if module_of(path) not in ("backbones", "torchvision_data"):
        assert not packages(ast.walk(tree)) & HEAVY
    assert not packages(tree.body) & HEAVY


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_nothing_in_lib_imports_the_service(path):
    assert "serve" not in packages(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", [*FILES, PROJECT_ROOT / "serve.py"], ids=lambda path: path.name)
def test_nothing_unpickles(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not packages(ast.walk(tree)) & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    assert "joblib.load" not in {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert ast.unparse(next(k.value for k in node.keywords if k.arg == "weights_only")) == "True"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_every_public_name_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    inner = {id(child) for node in definitions if isinstance(node, ast.FunctionDef) for child in ast.walk(node)} - {
        id(node) for node in tree.body
    }
    silent = [
        node.name
        for node in definitions
        if not node.name.startswith("_") and id(node) not in inner and not ast.get_docstring(node)
    ]
    assert ast.get_docstring(tree)
    assert not silent


def test_each_module_has_its_test_file():
    tested = {path.name for path in (PROJECT_ROOT / "tests").glob("test_*.py")}
    assert {f"test_{name}.py" for name in FLOORS} - {"test_errors.py"} <= tested
