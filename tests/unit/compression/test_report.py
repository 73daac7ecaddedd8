from msgspec.structs import replace

from pileus.compression.report import Rate, Report, Row, front, page, summary
from pileus.models.perplexity import Interval


def _row(name: str, perplexity: float, size: int, rate: float = 0.0) -> Row:
    exact = Interval(perplexity, perplexity - 1, perplexity + 1)
    return Row(
        name=name,
        how="somehow",
        target="native",
        size_bytes=size,
        parameters=1_000_000,
        zeros=0.5,
        perplexity=exact,
        perplexity_ratio=Interval(perplexity / 20, 0.9, 1.2),
        task=Interval(0.9, 0.8, 0.95),
        task_difference=Interval(-0.05, -0.1, 0.0),
        tokens_per_s={1: Rate(rate, rate, rate), 32: Rate(rate, rate, rate)} if rate else {},
    )


def _report(*rows: Row) -> Report:
    return Report(model="m", at="now", machine="here", calibration="c", text="t", tokens=5, windows="w", rows=rows)


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    assert front([(3, 1), (1, 5), (2, 6), (2, 2), (4, 1)]) == [(1, 5), (2, 2), (3, 1)]


def test_a_page_has_a_row_for_each_with_intervals() -> None:
    text = page(_report(_row("m", 20, 4_000_000, 50), _row("small", 21, 1_000_000, 80)))
    assert "| small | somehow | 1.0 | 1.0M | 50% | 21.00 [20.00, 22.00] | 1.050x [0.900, 1.200] |" in text
    assert "| tokens/s at 1 | tokens/s at 32 |" in text
    assert "90.0% [80.0, 95.0] | -5.0% [-10.0, +0.0]" in text


def test_without_a_task_there_is_no_column_of_it() -> None:
    row = replace(_row("m", 20, 4_000_000), task=None, task_difference=None)
    assert "| task |" not in page(_report(row))
    assert "task" not in summary(row)


def test_without_speeds_there_is_no_column_of_them() -> None:
    assert "tokens/s" not in page(_report(_row("m", 20, 4_000_000)))


def test_a_summary_is_one_line() -> None:
    assert summary(_row("small", 21, 1_000_000, 80)) == (
        "small: 1.0 MB, perplexity 21.00 (+5.0%), task 90%, 80 tokens/s at 1, 80 tokens/s at 32"
    )
