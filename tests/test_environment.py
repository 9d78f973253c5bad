import importlib.metadata
import subprocess
import sys

import pytest

from lib import environment

INSTALLED = {"right": "1.0", "local": "2.0+cpu", "wrong": "3.1"}


@pytest.fixture
def requirements(tmp_path, monkeypatch):
    """Write requirements.txt for an interpreter that has what INSTALLED says."""

    def version(name):
        if name not in INSTALLED:
            raise importlib.metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(environment.importlib.metadata, "version", version)

    def write(text):
        path = tmp_path / "requirements.txt"
        path.write_text(text)
        return path

    return write


def test_pins_are_read_with_the_files_they_include(requirements, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "serve.txt").write_text("-r base.txt\nflask==3.1.3\n")
    (tmp_path / "more" / "base.txt").write_text("numpy==2.4.6\n")
    path = requirements("-r more/serve.txt  # the service\n# torch==1.0\n\ntorch==2.14.1  # CPU\n-e .\n")
    assert environment.pins(path) == {"numpy": "2.4.6", "flask": "3.1.3", "torch": "2.14.1"}


@pytest.mark.parametrize(
    ("line", "pin"),
    [
        ("psycopg[binary]==3.3.9", ("psycopg", "3.3.9")),
        ("pillow == 13.0.0", ("pillow", "13.0.0")),
        ('ray==2.60.0; python_version < "3.13"', ("ray", "2.60.0")),
        ("scikit-learn==1.9.1#why", ("scikit-learn", "1.9.1")),
    ],
)
def test_pins_may_have_extras_spaces_markers_and_comments(requirements, line, pin):
    assert environment.pins(requirements(line)) == dict([pin])


def test_what_is_there_is_not_lacking(requirements):
    assert environment.lacking(requirements("right==1.0\nlocal==2.0\n")) == []
    assert environment.lacking(requirements("local==2.0+cpu\n")) == []


def test_missing_packages_and_wrong_versions_are_named(requirements):
    found = environment.lacking(requirements("gone==1.0\nright==1.0\nwrong==3.2\n"))
    assert found == ["gone is missing", "wrong is 3.1, not 3.2"]


@pytest.mark.parametrize("spec", [None, "namespace", "elsewhere"])
def test_another_lib_or_none_is_noticed(requirements, monkeypatch, tmp_path, spec):
    class Spec:
        origin = None if spec == "namespace" else str(tmp_path / "lib" / "__init__.py")

    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: Spec if spec else None)
    assert environment.lacking(requirements("right==1.0")) == ["lib is not importable from everywhere"]


def test_the_project_s_own_requirements_are_met():
    assert environment.lacking(environment.ROOT / "requirements-test.txt") == []


def test_as_a_script_it_needs_nothing_installed_and_names_three_at_most(tmp_path):
    folder = tmp_path / "lib"
    folder.mkdir()
    script = folder / "environment.py"
    script.write_text((environment.ROOT / "lib" / "environment.py").read_text(encoding="utf-8"), encoding="utf-8")
    names = [f"no-such-package-{number}==1.0" for number in range(5)]
    (tmp_path / "requirements.txt").write_text("\n".join(names))
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.count("is missing") == 3
    assert result.stdout.strip().endswith("and 3 more")  # two packages, and lib itself
    (tmp_path / "other.txt").write_text("another-missing-package==1.0")
    result = subprocess.run([sys.executable, "-I", "-S", str(script), "other.txt"], capture_output=True, text=True)
    assert result.stdout.startswith("another-missing-package is missing")
