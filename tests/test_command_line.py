"""Exit statuses, and the sentence on stderr."""

import signal

import pytest

from lib.command_line import exit_status, stopped_by_signals
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


def test_signals_set_an_event():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            stopped = stopped_by_signals()
            assert not stopped.is_set()
            signal.raise_signal(number)
            assert stopped.wait(5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
