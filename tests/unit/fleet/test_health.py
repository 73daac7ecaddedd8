import pytest

from pileus.fleet.health import Signs, hung, patience_s


@pytest.mark.parametrize(
    ("steps_s", "expected_s"),
    [
        ((), 5.0),  # nothing is known yet
        ((0.01,) * 100, 2.0),
        ((0.8,) * 100, 3.2),
        ((4.0,) * 100, 5.0),
        ((0.01,) * 98 + (0.9, 0.9), 3.6),
    ],
)
def test_patience_is_four_times_the_slowest_percent_within_bounds(
    steps_s: tuple[float, ...], expected_s: float
) -> None:
    assert patience_s(steps_s) == pytest.approx(expected_s)


def test_a_long_step_of_a_replica_with_long_steps_is_no_hang() -> None:
    assert hung(Signs(heard_s=100, stepped_s=97.1, steps_s=(0.8,) * 50), 100) == ""
    assert "its step has taken 2.9 s" in hung(Signs(heard_s=100, stepped_s=97.1, steps_s=(0.01,) * 50), 100)


def test_silence_is_a_hang_even_when_there_is_nothing_to_do() -> None:
    assert hung(Signs(heard_s=98.5, stepped_s=100, steps_s=(0.01,)), 100) == ""
    assert "said nothing for 2.5 s" in hung(Signs(heard_s=97.5, stepped_s=100, steps_s=(0.01,)), 100)
