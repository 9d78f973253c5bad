from lib.progress import progress_bar, quiet


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
