"""Progress where nobody watches: standard error is no terminal here, unless a test says so."""

from io import StringIO

import pytest
from rich.console import Console

from pileus.cli import output
from pileus.cli.progress import Bars, Pace


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


def test_a_long_stage_tells_its_pace_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    time = [0.0]
    with Bars(counts=True, paced=True, now=lambda: time[0]) as bars:
        for second in range(65):
            time[0] = float(second)
            bars("lines", 5000 + 20 * second, 20_000)
        bars("lines", 6280, 20_000, "paused")
        time[0] = 90.0
        bars("lines", 6280, 20_000, "paused")
        time[0] = 100.0
        bars("lines", 6280, 20_000)
        time[0] = 120.0
        bars("lines", 6580, 20_000)
    assert capsys.readouterr().err.splitlines() == [
        "Lines ...",
        "Lines ... 5,600/20,000, 20/s, 12m 00s left",
        "Lines ... 6,200/20,000, 20/s, 11m 30s left",
        "Lines ... 6,280/20,000, paused",
        "Lines ... 6,580/20,000, 15/s, 14m 54s left",
    ]


def test_a_terminal_shows_amount_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, time = StringIO(), [0.0]
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(output, "terminal", lambda *, stderr: console)
    with Bars(counts=True, paced=True, now=lambda: time[0]) as bars:
        bars("lines", 0, 2000)
        time[0] = 10.0
        bars("lines", 5, 2000)
    last = screen.getvalue().rpartition("Lines")[2]
    assert "5/2,000 0.5/s, 1h 06m left" in last


def test_a_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(100):
        pace.see(1000 * min(second, 50), float(second))
    assert pace.per_s == 0.0
    assert pace.told(100_000) == ""
    for second in range(100, 116):
        pace.see(50_000 + 8 * (second - 99), float(second))
    assert 3.9 < pace.per_s < 4.5
    assert pace.told(0) == f"{pace.per_s:.2g}/s"


def test_what_is_begun_again_has_no_pace_yet() -> None:
    pace = Pace()
    pace.see(0, 0.0)
    pace.see(500, 1.0)
    pace.see(10, 2.0)
    assert pace.per_s == 0.0
