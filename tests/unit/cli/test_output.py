"""What people and programs read."""

import pytest

from pileus.cli import output


@pytest.mark.parametrize(("seconds", "text"), [(45.9, "45s"), (723, "12m 03s"), (12_000, "3h 20m"), (450_000, "5d 5h")])
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (98_362_432, "98 MB")])
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert output.size(count) == text


def test_a_table_in_a_pipe_never_breaks_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "WHAT"), [("x", "word " * 200), ("", None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].count("word") == 200
    assert lines[3].split() == ["-", "-"]


def test_json_keeps_other_alphabets_readable(capsys: pytest.CaptureFixture[str]) -> None:
    output.json({"name": "积云"})
    assert "积云" in capsys.readouterr().out
