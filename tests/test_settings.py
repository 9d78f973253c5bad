import pytest

from lib.errors import ParameterError
from lib.settings import read_setting


def test_a_setting_is_the_variable_or_the_content_of_the_file_that_is_named(monkeypatch, tmp_path):
    assert read_setting("SOME_SECRET") == ""
    monkeypatch.setenv("SOME_SECRET", " from the environment ")
    assert read_setting("SOME_SECRET") == "from the environment"
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("SOME_SECRET_FILE", str(tmp_path / "secret"))
    assert read_setting("SOME_SECRET") == "from a file"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(monkeypatch, tmp_path, content):
    if content:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("SOME_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(ParameterError, match=r"SOME_SECRET_FILE names .*secret, which cannot be read"):
        read_setting("SOME_SECRET")
