import datetime
import json

import pytest

from lib.errors import ParameterError
from lib.parameters import Parameter, check_names, parse_value, read_parameters

TEXT, WHOLE, NUMBER, SWITCH = (
    Parameter("p", kind, default, "m") for kind, default in (("str", "x"), ("int", 1), ("float", 0.5), ("bool", False))
)


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook: notebook(source of a parameters cell, ...)."""

    def write(*sources):
        cells = [{"cell_type": "markdown", "metadata": {}, "source": "# Title"}]
        cells += [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source} for source in sources]
        cells += [{"cell_type": "code", "metadata": {"tags": ["other"]}, "source": "import numpy"}]
        path = tmp_path / "01_name.ipynb"
        path.write_text(json.dumps({"cells": cells}))
        return path

    return write


def test_a_parameters_cell_is_read_in_order(notebook):
    source = 'task: str = "sample"  # the name\nn: int = -3  # how many\n'
    source += "rate: float = 1e-3  # a share\nfast: bool = True  # or not"
    found = read_parameters(notebook(source))
    assert list(found.values()) == [
        Parameter("task", "str", "sample", "the name"),
        Parameter("n", "int", -3, "how many"),
        Parameter("rate", "float", 0.001, "a share"),
        Parameter("fast", "bool", True, "or not"),
    ]


def test_a_cell_may_be_stored_as_lines_and_hold_blank_ones_and_comments(notebook):
    source = ["# about the data\n", "\n", 'a: str = ""  # first\n', "b: int = 2  # second"]
    assert list(read_parameters(notebook(source))) == ["a", "b"]


def test_hash_marks_inside_text_and_comment_stay_where_they_are(notebook):
    found = read_parameters(notebook('color: str = "#fff"  # a colour, such as #fff'))["color"]
    assert (found.default, found.meaning) == ("#fff", "a colour, such as #fff")


def test_a_whole_default_of_a_float_is_a_float(notebook):
    default = read_parameters(notebook("rate: float = 1  # a share"))["rate"].default
    assert (default, type(default)) == (1.0, float)


@pytest.mark.parametrize(
    "line",
    [
        "n: int | None = 1  # optional",
        "n: list = []  # another type",
        "n: int = 1",
        "n: int = 1  #",
        'n: str = "a#b"',
        "n: int = 1; m: int = 2  # two on a line",
        "n: int = 1  # first\nimport os  # a second statement",
        "n = 1  # no type",
        "n: int  # no default",
        "n: int = 1.5  # another type",
        "n: int = True  # another type",
        "n: bool = 0  # another type",
        'n: float = float("nan")  # computed',
        "n: int = {[]: 1}  # no literal",
        "n.m: int = 1  # no name",
        "n: int = 1  # one\nn: int = 2  # the same name again",
    ],
)
def test_any_other_line_is_refused_with_the_form_it_should_have(notebook, line):
    with pytest.raises(ParameterError, match=r"01_name\.ipynb: .* write `name: type = default  # meaning`"):
        read_parameters(notebook(line))


@pytest.mark.parametrize("source", ["n: int = (", "%matplotlib inline", "n: int = 1  # a\n  m: int = 2  # b", "a\0b"])
def test_a_cell_that_is_not_python_is_refused(notebook, source):
    with pytest.raises(ParameterError, match=r"01_name\.ipynb.*not Python"):
        read_parameters(notebook(source))


@pytest.mark.parametrize(("sources", "n"), [((), 0), (("a: int = 1  # x", "b: int = 1  # x"), 2)])
def test_exactly_one_cell_defines_the_parameters(notebook, sources, n):
    with pytest.raises(ParameterError, match=f"has {n} cells tagged 'parameters'; exactly one"):
        read_parameters(notebook(*sources))


@pytest.mark.parametrize(
    ("parameter", "given", "value"),
    [
        (TEXT, "007", "007"),
        (TEXT, "", ""),
        (TEXT, "true", "true"),
        (WHOLE, "3", 3),
        (WHOLE, "-3", -3),
        (WHOLE, 3, 3),
        (NUMBER, "1e-3", 0.001),
        (NUMBER, "2", 2.0),
        (NUMBER, 2, 2.0),
        (NUMBER, 0.25, 0.25),
        (SWITCH, "true", True),
        (SWITCH, "False", False),
        (SWITCH, True, True),
        (SWITCH, False, False),
    ],
)
def test_values_take_the_parameter_s_type(parameter, given, value):
    parsed = parse_value(parameter, given)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("parameter", "given", "wanted"),
    [
        *((WHOLE, given, "a whole number") for given in ("3.5", 3.5, 3.0, True, "three", "", None, [3], "1e3")),
        *((NUMBER, given, "a finite number") for given in ("nan", "inf", float("nan"), 10**400, True, "1,5", None, {})),
        *((SWITCH, given, "true or false") for given in ("yes", "1", 1, 0, "", None, [])),
        *((TEXT, given, "text") for given in (7, 1.5, True, None, [], ["a"], {"a": 1}, datetime.date(2026, 11, 23))),
    ],
)
def test_values_of_another_type_are_refused_with_what_is_wanted(parameter, given, wanted):
    with pytest.raises(ParameterError, match=rf"Parameter p must be {wanted}.* \({parameter.type}, default .*\), not "):
        parse_value(parameter, given)


STAGES = {
    "embedding": {"data_dir": TEXT, "seed": WHOLE, "test_fraction": NUMBER},
    "training": {"n_folds": WHOLE, "seed": WHOLE},
}


def test_names_of_the_stages_that_run_are_known():
    check_names(["seed", "n_folds", "data_dir"], STAGES, STAGES)
    check_names(["seed"], {"training": STAGES["training"]}, STAGES)


@pytest.mark.parametrize(("name", "near"), [("n_fold", "n_folds"), ("SEED", "seed"), ("datadir", "data_dir")])
def test_an_unknown_name_is_refused_with_the_nearest(name, near):
    with pytest.raises(ParameterError, match=f"No notebook has a parameter '{name}'; did you mean '{near}'"):
        check_names(["seed", name], STAGES, STAGES)


def test_a_name_of_a_stage_that_does_not_run_says_whose_it_is():
    with pytest.raises(ParameterError, match="'test_fraction' belongs to embedding, which is not among the stages"):
        check_names(["test_fraction"], {"training": STAGES["training"]}, STAGES)


def test_the_nearest_name_may_be_one_of_a_stage_that_does_not_run():
    with pytest.raises(ParameterError, match="did you mean 'n_folds'"):
        check_names(["n_fold"], {"embedding": STAGES["embedding"]}, STAGES)


CHOICE = Parameter("precision", "str", "fp32", "one of auto, fp32, int8: the numbers the network counts in")


def test_a_meaning_may_list_the_values_allowed():
    assert CHOICE.choices == ["auto", "fp32", "int8"]
    assert parse_value(CHOICE, "int8") == "int8"
    assert Parameter("seed", "int", 0, "one of many seeds").choices == []


@pytest.mark.parametrize("value", ["int4", "", "INT8"])
def test_a_value_that_is_none_of_the_choices_is_refused_with_them(value):
    with pytest.raises(ParameterError, match=r"precision must be one of auto, fp32, int8 \(default 'fp32'\), not"):
        parse_value(CHOICE, value)
