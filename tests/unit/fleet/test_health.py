"""When a replica is given up."""

import pytest

from pileus.fleet.health import SILENCE_S, UNKNOWN_STEP_S, Signs, hung, patience_s


def signs(
    steps_s: tuple[float, ...] = (0.01,) * 100,
    token_s: tuple[float, ...] = (0.001,),
    planned_tokens: int = 1,
    since_step_s: float = 0.0,
    silent_s: float = 0.0,
) -> Signs:
    return Signs(
        heard_s=100 - silent_s,
        stepped_s=100 - since_step_s,
        steps_s=steps_s,
        token_s=token_s,
        planned_tokens=planned_tokens,
    )


@pytest.mark.parametrize(
    ("steps_s", "planned_tokens", "expected_s"),
    [
        ((0.01,) * 100, 1, 2.0),  # never less than this
        ((0.8,) * 100, 1, 3.2),
        ((0.01,) * 98 + (0.9, 0.9), 1, 3.6),
        ((4.0,) * 100, 1, 16.0),  # a large model's steps are long
        ((0.01,) * 100, 8192, 32.768),  # and so is that of a long prompt
        ((), 1, UNKNOWN_STEP_S),
    ],
)
def test_patience_is_four_times_what_such_a_step_takes(
    steps_s: tuple[float, ...], planned_tokens: int, expected_s: float
) -> None:
    assert patience_s(signs(steps_s, planned_tokens=planned_tokens)) == pytest.approx(expected_s)


def test_nothing_is_a_hang_before_it_is_known_what_a_token_takes() -> None:
    assert patience_s(signs(token_s=(), planned_tokens=256)) == UNKNOWN_STEP_S


def test_the_slowest_interval_counts() -> None:
    assert patience_s(signs(token_s=(0.001, 0.02, 0.001), planned_tokens=100)) == pytest.approx(8.0)


def test_a_long_step_of_a_replica_with_long_steps_is_no_hang() -> None:
    assert hung(signs((0.8,) * 50, since_step_s=2.9), 100) == ""
    assert "its step has taken 2.9 s" in hung(signs(since_step_s=2.9), 100)


def test_silence_is_a_hang_even_when_there_is_nothing_to_do() -> None:
    assert hung(signs(silent_s=SILENCE_S - 0.5), 100) == ""
    assert "said nothing for 4.5 s" in hung(signs(silent_s=SILENCE_S + 0.5), 100)
