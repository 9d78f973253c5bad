"""Notebook parameters: read from the one cell that defines them, checked strictly before a kernel starts."""

import ast
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import ParameterError

TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `name: type = default  # meaning`."""

    name: str
    type: str
    default: str | int | float | bool
    meaning: str


def read_notebook(path: Path) -> dict:
    """A notebook's JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def cell_source(cell: dict) -> str:
    """A cell's text."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def read_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in order.

    Raises
    ------
    ParameterError
        If the notebook has not exactly one cell tagged "parameters", or a line of it is not of the form above.
    """
    cells = read_notebook(path)["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{path.name} has {len(tagged)} cells tagged 'parameters'; exactly one is allowed.")
    source = cell_source(tagged[0])
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body:
        parameter = _parameter(node, lines[node.lineno - 1])
        if parameter is None:
            raise ParameterError(
                f"{path.name}: {lines[node.lineno - 1]!r} is not a parameter; write `name: type = default  # meaning`."
            )
        found[parameter.name] = parameter
    return found


def _parameter(node: ast.stmt, line: str) -> Parameter | None:
    """A statement as a parameter; None where it is something else."""
    if not (
        isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.annotation, ast.Name)
    ):
        return None
    if node.annotation.id not in TYPES or node.value is None or "#" not in line:
        return None
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        return None
    kind = TYPES[node.annotation.id]
    if type(default) is not kind and not (kind is float and type(default) is int):
        return None
    return Parameter(node.target.id, node.annotation.id, default, line.rsplit("#", 1)[1].strip())


def parse_value(parameter: Parameter, value: object) -> str | int | float | bool:
    """A value from the command line (str) or a YAML file, as the parameter's type; "007" stays text for a str.

    Raises
    ------
    ParameterError
        If it is not of that type.
    """
    kind = TYPES[parameter.type]
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and isinstance(value, float | bool):
            raise ValueError
        if kind is not str and isinstance(value, bool):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError):
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}[parameter.type]
        raise ParameterError(
            f"Parameter {parameter.name} must be {wanted} ({parameter.type}, default {parameter.default!r}), "
            f"not {value!r}."
        ) from None


def check_names(
    given: Iterable[str], selected: dict[str, dict[str, Parameter]], every: dict[str, dict[str, Parameter]]
) -> None:
    """Refuse names that no selected stage has.

    Parameters
    ----------
    given : names
    selected, every : dict of stage -> its parameters
        The stages that run, and all there are.

    Raises
    ------
    ParameterError
        Naming the stages that have the parameter, or the nearest name.
    """
    known = {name for parameters in selected.values() for name in parameters}
    for name in given:
        if name in known:
            continue
        owners = [stage for stage, parameters in every.items() if name in parameters]
        if owners:
            raise ParameterError(
                f"Parameter {name!r} belongs to {', '.join(owners)}, which is not among the stages to run."
            )
        near = difflib.get_close_matches(name, known, 1, cutoff=0)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ParameterError(f"No notebook has a parameter {name!r}{hint} (--list shows all of them)")
