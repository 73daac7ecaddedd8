"""What is told of an open loop: every time from when its request was due, every share of what was asked."""

import pytest

from benchmarks.answers import Refused, Timeline
from benchmarks.open_loop import Answered, Sent
from benchmarks.shares import jain, latencies, of_load, steady_rate, tokens_by_tenant


def stream(sent_s: float, *pieces_s: float) -> Timeline:
    return Timeline(sent_s, pieces_s, len(pieces_s))


SENT = Sent(
    100.0,
    [
        Answered("a", 101.0, stream(101.5, 102.0, 103.0)),
        Answered("b", 101.0, Refused(101.0, 101.25, 503, {"retry-after": "1"})),
        Answered("b", 101.0, Refused(101.0, 101.5, 503, {})),
        Answered("a", 101.0, stream(101.0, 101.5, 105.5)),
    ],
    client_cpu=0.25,
)


def test_times_count_from_when_a_request_was_due() -> None:
    assert latencies(SENT) == {
        "requests": 4,
        "admitted_percent": 50,
        "ttft_p50_ms": 500,
        "ttft_p99_ms": 1000,
        "latency_p99_ms": 4500,
        "late_p99_ms": 500,
        "client_cpu_percent": 25,
    }


def test_goodput_is_what_comes_while_requests_do_and_the_slots_are_full() -> None:
    figures = of_load(SENT, duration_s=4.0, peak_tokens_per_s=4.0)
    assert figures["goodput_percent"] == 25  # two tokens of four come from 102 to 104
    assert (figures["refusal_p99_ms"], figures["hinted_percent"]) == (500, 50)


def test_tokens_that_came_together_count_in_the_same_proportion() -> None:
    merged = Timeline(0.0, (3.0, 9.0), 64)
    assert steady_rate([merged], 0.0, 4.0) == pytest.approx(32 / 2)


def test_who_got_nothing_is_counted_too() -> None:
    assert tokens_by_tenant(SENT.answers) == {"a": 4, "b": 0}
    assert SENT.of("b").answers == SENT.answers[1:3]


def test_jains_index_is_one_where_all_have_the_same_and_its_least_where_one_has_all() -> None:
    assert jain([3, 3, 3, 3]) == 1
    assert jain([5, 0, 0, 0]) == 0.25
