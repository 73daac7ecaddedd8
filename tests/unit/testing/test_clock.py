import pytest

from pileus.testing.clock import ManualClock


def test_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(wall=100)
    assert (clock.monotonic(), clock.wall()) == (0, 100)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.wall()) == (2.5, 102.5)


def test_the_wall_clock_may_jump_back_and_the_monotonic_one_does_not() -> None:
    clock = ManualClock(wall=100)
    clock.set_wall(10)
    assert (clock.monotonic(), clock.wall()) == (0, 10)
    with pytest.raises(ValueError, match="run back"):
        clock.advance(-1)
