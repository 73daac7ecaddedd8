"""The report says what was measured, and which goals were missed."""

import json
from pathlib import Path

from pileus.demo.chapter import Chapter, Figure
from pileus.demo.report import make_report, save

CHAPTERS = (
    Chapter(
        title="First",
        says="It is small.",
        figures=(Figure("size", "3 | 4"), Figure("loss", "0.5", "at most 1", holds=True)),
        plots=("loss.png",),
        seconds=2.4,
    ),
    Chapter(
        title="Second",
        says="It is not.",
        figures=(Figure("accuracy", "80%", "at least 90%", holds=False),),
        samples=("one\ntwo",),
    ),
)


def test_a_missed_goal_is_told_on_top_and_beside_its_figure(tmp_path: Path) -> None:
    report = make_report(CHAPTERS, 90.0)
    assert [figure.name for figure in report.missed] == ["accuracy"]
    page = save(report, tmp_path).read_text()
    assert "**Goals that were missed: accuracy.**" in page
    assert "| loss | 0.5 | at most 1: yes |" in page
    assert "| accuracy | 80% | at least 90%: **no** |" in page
    assert "1.5 minutes in all" in page


def test_texts_and_plots_stand_in_the_page_and_bars_do_not_break_its_tables(tmp_path: Path) -> None:
    page = save(make_report(CHAPTERS, 90.0), tmp_path).read_text()
    assert "| size | 3 \\| 4 |  |" in page
    assert "> one\n> two" in page
    assert "![First](loss.png)" in page


def test_programs_read_the_same(tmp_path: Path) -> None:
    save(make_report(CHAPTERS, 90.0), tmp_path)
    read = json.loads((tmp_path / "report.json").read_bytes())
    assert [chapter["title"] for chapter in read["chapters"]] == ["First", "Second"]
    assert read["chapters"][1]["figures"][0] == {
        "name": "accuracy",
        "shown": "80%",
        "goal": "at least 90%",
        "holds": False,
    }
