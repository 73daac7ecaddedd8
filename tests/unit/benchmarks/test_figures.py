"""Figures say what their names say."""

import pytest

from benchmarks.answers import Timeline, Whole
from benchmarks.figures import of_streams, of_whole_load, peak_open, percentile


def test_tokens_per_second_span_from_the_first_request_to_the_last_token() -> None:
    figures = of_streams([Timeline(0.0, (1.0, 2.0, 3.0), 3), Timeline(1.0, (2.0, 5.0), 2)])
    assert figures["total_s"] == 5.0
    assert figures["tokens_per_s"] == pytest.approx(1.0)
    assert figures["ttft_ms"] == pytest.approx(1000)  # both waited one second
    assert figures["itl_ms"] == pytest.approx(2000)  # (1 s and 3 s per token) in the middle
    assert figures["stall_ms"] == pytest.approx(3000)


def test_tokens_that_came_together_still_count_one_by_one() -> None:
    assert of_streams([Timeline(0.0, (1.0, 3.0), 5)])["itl_ms"] == pytest.approx(500)


def test_a_single_token_has_no_inter_token_latency() -> None:
    assert of_streams([Timeline(0.0, (1.0,), 1)])["itl_ms"] == 0.0


def test_requests_per_second_and_latencies_of_whole_answers() -> None:
    answers = [Whole(float(at), at + 0.5 + at / 10, 1, {}) for at in range(4)]
    figures = of_whole_load(answers)
    assert figures["requests_per_s"] == pytest.approx(4 / 3.8)
    assert figures["latency_p50_ms"] == pytest.approx(650)
    assert figures["latency_p99_ms"] == pytest.approx(800)


def test_open_streams_are_those_between_their_first_and_last_piece() -> None:
    lines = [Timeline(0.0, (1.0, 4.0), 2), Timeline(0.0, (2.0, 3.0), 2), Timeline(0.0, (4.0, 5.0), 2)]
    assert peak_open(lines) == 2.0


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([3, 1, 2], percent) for percent in (1, 50, 99)] == [1, 2, 3]
