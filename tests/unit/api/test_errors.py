"""Refusals say when to come back."""

import pytest

from pileus.api.errors import answer, answer_headers
from pileus.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PileusError,
    Quarantined,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)


def headers_of(error: PileusError) -> tuple[int, dict[bytes, bytes]]:
    status, _ = answer(error)
    return status, dict(answer_headers(error, status))


@pytest.mark.parametrize(
    ("error", "status"), [(Overloaded, 503), (Unavailable, 503), (QuotaExceeded, 429), (RateLimited, 429)]
)
@pytest.mark.parametrize(
    ("retry_s", "seconds", "milliseconds"),
    [
        (1.0, b"1", b"1000"),
        (2.5, b"3", b"2500"),
        (2.0001, b"3", b"2001"),
        (0.25, b"1", b"250"),
        (0.0, b"1", b"1"),
        (3600.0, b"3600", b"3600000"),
    ],
)
def test_every_refusal_tells_when_to_come_back_rounded_up(
    error: type[Overloaded | QuotaExceeded | RateLimited],
    status: int,
    retry_s: float,
    seconds: bytes,
    milliseconds: bytes,
) -> None:
    found = headers_of(error("no", retry_after_s=retry_s))
    assert found == (status, {b"retry-after": seconds, b"retry-after-ms": milliseconds})


@pytest.mark.parametrize("error", [InvalidRequest(), DeadlineExceeded()])
def test_what_is_no_matter_of_waiting_does_not_tell_to_wait(error: PileusError) -> None:
    assert headers_of(error)[1] == {}


def test_a_request_that_cost_replicas_is_not_to_be_sent_again_by_the_client_itself() -> None:
    assert headers_of(Quarantined()) == (500, {b"x-should-retry": b"false"})
