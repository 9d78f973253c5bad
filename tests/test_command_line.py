"""Exit statuses, and the sentence on stderr."""

import pytest

from lib.command_line import exit_status
from lib.errors import ArtifactError, LockedError, ParameterError


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (None, 0, ""),
        (ArtifactError("it is damaged"), 1, "Failed: it is damaged\n"),
        (ParameterError("no such name"), 2, "no such name\n"),
        (LockedError("another run works"), 3, "another run works\n"),
    ],
)
def test_the_status_says_how_it_went(capsys, error, status, told):
    def act():
        if error:
            raise error

    assert exit_status(act, (ArtifactError,)) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", told)


def test_a_fault_of_the_code_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 / 0, (ArtifactError,))
