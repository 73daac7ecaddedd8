"""The page says what the record holds, also where that disappoints."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import goals, plot, report, results, summary
from benchmarks.cli import write_docs
from benchmarks.results import Machine, Measurement, Missing, Results, Target

DOCS = Path(__file__).parents[3] / "docs"


def record() -> Results:
    """Two engines in two rounds; the second round is slow for both."""
    made = Results("2026-01-01", "python -m benchmarks", "abc", Machine("A CPU", 2, 8.0, "Linux", ("avx2",)))
    made.titles["concurrent-32"] = "32 concurrent"
    for name in ("pileus", "genai"):
        made.targets.append(Target(name, name.title(), "1.0", "int4 | u8", "defaults"))
    for number, (ours, theirs) in enumerate([(300.0, 200.0), (60.0, 50.0)], start=1):
        for name, value in (("pileus", ours), ("genai", theirs)):
            made.measurements.append(
                Measurement("engines", "concurrent-32", name, number, {"tokens_per_s": value, "ttft_ms": 1.0})
            )
    made.missing.append(Missing("vllm", "everything", "not available: no network"))
    return made


def test_ratios_are_taken_round_by_round() -> None:
    ours = summary.by_round(record(), "concurrent-32", "pileus", "tokens_per_s")
    theirs = summary.by_round(record(), "concurrent-32", "genai", "tokens_per_s")
    assert summary.ratio(ours, theirs) == summary.Spread(1.35, 1.2, 1.5, 2)


def test_a_round_that_one_of_them_missed_is_left_out() -> None:
    assert summary.ratio({1: 3.0, 2: 8.0}, {2: 4.0, 3: 1.0}).rounds == 1
    with pytest.raises(summary.NoFigure):
        summary.ratio({1: 3.0}, {2: 4.0})


def test_a_goal_that_was_missed_is_said_to_be() -> None:
    made = record()
    assert "| 1.35 (1.20 to 1.50) | 2 | met |" in report.goals(made)
    slower = [
        Measurement(one.suite, one.workload, one.target, one.round, {"tokens_per_s": 1.0}) for one in made.measurements
    ]
    made.measurements = slower[::2] + [
        Measurement(one.suite, one.workload, one.target, one.round, {"tokens_per_s": 2.0}) for one in slower[1::2]
    ]
    assert "**not met**" in report.goals(made)


def test_what_was_not_measured_is_said_to_be() -> None:
    assert report.goals(record()).count("not measured") == len(goals.GOALS) - 1


def test_the_page_names_precisions_failures_and_the_machine() -> None:
    page = report.page(record())
    assert "int4 \\| u8" in page
    assert "- vllm, everything: not available: no network" in page
    assert "A CPU" in page


def test_the_plot_is_well_formed_and_has_a_bar_for_each_engine() -> None:
    drawn = ET.fromstring(plot.svg(record(), plot.ENGINE_PANELS))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 2


def test_a_record_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    made = record()
    made.save(tmp_path / "results.json")
    assert results.load(tmp_path / "results.json") == made


@pytest.mark.skipif(not (DOCS / "benchmarks.json").exists(), reason="no run has been published yet")
def test_the_published_page_is_made_from_the_published_record(tmp_path: Path) -> None:
    write_docs(results.load(DOCS / "benchmarks.json"), tmp_path)
    for name in ("benchmarks.md", "images/benchmarks-engines.svg", "images/benchmarks-gateway.svg"):
        assert (DOCS / name).read_text() == (tmp_path / name).read_text(), "run `python -m benchmarks docs`"
