"""Progress where nobody watches: standard error is no terminal here."""

import pytest

from pileus.cli.progress import Bars


def test_each_stage_is_one_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        for done in range(0, 100, 10):
            bars("downloading", done, 100)
        bars("converting", 0, 0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.split("\n") == ["Downloading ...", "Converting ...", ""]


def test_nothing_is_drawn_for_work_that_was_done_already(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars():
        pass
    assert capsys.readouterr().err == ""
