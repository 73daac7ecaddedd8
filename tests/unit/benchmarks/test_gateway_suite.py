"""What a gateway is said to add."""

from benchmarks.answers import Whole
from benchmarks.suites.gateway import added_p50_ms


def test_an_engine_that_tells_its_time_has_it_subtracted_request_by_request() -> None:
    told = [
        Whole(0.0, 0.010, 1, {"x-pileus-prefill-ms": "6.00", "x-pileus-decode-ms": "1.00"}),
        Whole(0.0, 0.005, 1, {"x-pileus-prefill-ms": "0.50", "x-pileus-decode-ms": "0.50"}),
        Whole(0.0, 0.006, 1, {"x-pileus-prefill-ms": "1.00", "x-pileus-decode-ms": "0.00"}),
    ]
    assert round(added_p50_ms(told, floor_ms=99.0), 6) == 4.0


def test_of_any_other_the_latency_of_nothing_is_subtracted() -> None:
    assert round(added_p50_ms([Whole(0.0, 0.010, 1, {})], floor_ms=0.5), 6) == 9.5
