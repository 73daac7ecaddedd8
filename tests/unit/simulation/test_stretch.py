"""Many steps at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.simulation.stretch import Stretch


def test_steps_that_grow_are_summed() -> None:
    stretch = Stretch(10.0, 4, first_s=1.0, growth_s=0.5)  # 1, 1.5, 2, 2.5
    assert stretch.end == 17.0
    assert stretch.length(3) == 4.5


def test_the_first_step_may_be_longer_than_its_likes() -> None:
    stretch = Stretch(10.0, 4, first_s=1.0, extra_s=2.0)  # 3, 1, 1, 1
    assert (stretch.length(0), stretch.end) == (0.0, 16.0)
    assert [stretch.begun_by(at) for at in (10.0, 12.5, 13.0, 13.5, 14.5, 99.0)] == [1, 1, 1, 2, 3, 4]
    assert [stretch.ended_by(at) for at in (10.0, 12.5, 13.0, 13.5, 14.5, 99.0)] == [0, 0, 1, 1, 2, 4]


@pytest.mark.parametrize(
    ("at", "begun", "ended"),
    [(10.0, 1, 0), (10.5, 1, 0), (11.0, 1, 1), (11.25, 2, 1), (12.5, 2, 2), (14.5, 3, 3), (17.0, 4, 4), (99.0, 4, 4)],
)
def test_a_step_in_progress_has_begun_and_not_ended(at: float, begun: int, ended: int) -> None:
    stretch = Stretch(10.0, 4, first_s=1.0, growth_s=0.5)
    assert (stretch.begun_by(at), stretch.ended_by(at)) == (begun, ended)


@given(st.floats(1e-4, 1.0), st.floats(0.0, 0.1), st.floats(0.0, 2.0), st.integers(1, 64), st.floats(0.0, 100.0))
def test_it_is_as_counting_the_steps_one_by_one(
    first_s: float, growth_s: float, extra_s: float, steps: int, at: float
) -> None:
    stretch = Stretch(1.0, steps, first_s, growth_s, extra_s)
    counted = 1
    while counted < steps and 1.0 + stretch.length(counted) < at:
        counted += 1
    assert stretch.begun_by(at) == counted
