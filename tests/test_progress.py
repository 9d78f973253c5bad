import io

import pytest

from lib.progress import EVERY, Lines, bars_to, progress_bar, quiet


def test_the_bar_shows_rate_and_time_left(capsys):
    for _ in progress_bar(range(3), 3, "embedding with x"):
        pass
    shown = capsys.readouterr().err
    assert "embedding with x: 100%" in shown
    assert "images/s" in shown
    assert "00:00<00:00" in shown


def test_the_bar_names_what_it_counts(capsys):
    assert list(progress_bar(range(2), 2, "search, paths")) == [0, 1]
    shown = capsys.readouterr().err
    assert "search: 100%" in shown
    assert "paths/s" in shown


def test_quiet_shows_nothing(capsys):
    assert list(quiet(range(2), 2, "x")) == [0, 1]
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_bars_as_they_are():
    with bars_to(Terminal()) as stream:
        print("\rreading: 10%", "\rreading: 100%", sep="", file=stream)
    assert stream.getvalue() == "\rreading: 10%\rreading: 100%\n"


def test_a_log_gets_a_state_now_and_again_and_the_last_one():
    written, now = io.StringIO(), [0.0]
    lines = Lines(written, clock=lambda: now[0])
    for share in range(0, 101, 5):
        lines.write(f"\rreading: {share}%")
        now[0] += EVERY / 4
    lines.write("\n")
    assert written.getvalue().splitlines() == [f"reading: {share}%" for share in (15, 35, 55, 75, 95, 100)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a warning\r\nmore\r\n", "a warning\nmore\n"),
        ("50%\r100%\r", "100%\n"),
        ("\r50%\r   \r", ""),
        ("x\r\r\n", "x\n"),
    ],
)
def test_a_line_that_ends_with_its_own_beginning_is_not_lost(text, told):
    written = io.StringIO()
    with bars_to(written) as stream:
        for character in text:
            stream.write(character)
    assert written.getvalue() == told


def test_a_log_keeps_plain_lines_and_one_that_was_cut_off():
    written = io.StringIO()
    with bars_to(written) as stream:
        stream.write("a warning\n\nin two ")
        stream.write("parts\n\rreading: 0%\rreading: 7%")
        stream.flush()
        assert written.getvalue() == "a warning\n\nin two parts\n"
    assert written.getvalue().endswith("parts\nreading: 7%\n")
