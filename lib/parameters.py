"""Notebook parameters: read from the one cell that defines them, checked strictly before a kernel starts."""

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import ParameterError

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
WANTED = {"str": "text in quotes", "int": "a whole number", "float": "a finite number", "bool": "true or false"}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `name: type = default  # meaning`.

    A meaning that begins with "one of a, b, c:" lists the values a text may have.
    """

    name: str
    type: str
    default: str | int | float | bool
    meaning: str

    @property
    def choices(self) -> list[str]:
        """The values allowed; empty where any value of the type is."""
        match = re.match(r"one of ([\w, ]+):", self.meaning)
        return [choice.strip() for choice in match[1].split(",")] if match else []


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
    try:
        statements, comments = ast.parse(source).body, _comments(source)
    except (SyntaxError, ValueError) as error:
        raise ParameterError(f"{path.name}: the cell tagged 'parameters' is not Python ({error}).") from None
    lines = source.splitlines()
    found: dict[str, Parameter] = {}
    for node in statements:
        parameter = _parameter(node, comments.pop(node.lineno, ""))  # popped: a line has room for one
        if parameter is None or parameter.name in found:
            raise ParameterError(
                f"{path.name}: {lines[node.lineno - 1]!r} is not a parameter; write `name: type = default  # meaning`, "
                "one a line and each name once."
            )
        found[parameter.name] = parameter
    return found


def _comments(source: str) -> dict[int, str]:
    """Line number -> its comment, without the mark."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string[1:].strip() for token in tokens if token.type == tokenize.COMMENT}


def _parameter(node: ast.stmt, meaning: str) -> Parameter | None:
    """A statement and its comment as a parameter; None where it is something else."""
    if not (
        isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.annotation, ast.Name)
    ):
        return None
    if node.annotation.id not in TYPES or node.value is None or not meaning:
        return None
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):
        return None
    kind = TYPES[node.annotation.id]
    if type(default) is not kind and not (kind is float and type(default) is int):
        return None
    return Parameter(node.target.id, node.annotation.id, kind(default), meaning)


def parse_value(parameter: Parameter, value: object) -> str | int | float | bool:
    """A value from the command line (str) or a YAML file, as the parameter's type and one of its choices if it has any.

    "007" stays text for a str; a number, date or nothing at all is no text, for YAML has already read 007 as 7.

    Raises
    ------
    ParameterError
        If it is not of that type, or none of the choices.
    """
    parsed = _converted(parameter, value)
    if parameter.choices and parsed not in parameter.choices:
        raise ParameterError(
            f"Parameter {parameter.name} must be one of {', '.join(parameter.choices)} "
            f"(default {parameter.default!r}), not {value!r}."
        )
    return parsed


def _converted(parameter: Parameter, value: object) -> str | int | float | bool:
    """`parse_value` without regard to choices."""
    kind = TYPES[parameter.type]
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and isinstance(value, float | bool):
            raise ValueError
        if (kind is float and isinstance(value, bool)) or (kind is str and not isinstance(value, str)):
            raise ValueError
        parsed = kind(value)
        if kind is float and not math.isfinite(parsed):
            raise ValueError
        return parsed
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ParameterError(
            f"Parameter {parameter.name} must be {WANTED[parameter.type]} "
            f"({parameter.type}, default {parameter.default!r}), not {value!r}."
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
    names = {name.lower(): name for parameters in every.values() for name in parameters}
    for name in given:
        if name in known:
            continue
        owners = [stage for stage, parameters in every.items() if name in parameters]
        if owners:
            raise ParameterError(
                f"Parameter {name!r} belongs to {', '.join(owners)}, which is not among the stages to run."
            )
        near = difflib.get_close_matches(name.lower(), names, 1, cutoff=0)
        hint = f"; did you mean {names[near[0]]!r}?" if near else "."
        raise ParameterError(f"No notebook has a parameter {name!r}{hint} (--list shows all of them)")
