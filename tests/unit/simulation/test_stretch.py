"""Many steps at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.simulation.stretch import Stretch


def test_steps_that_grow_are_summed() -> None:
    stretch = Stretch(10.0, 4, first_s=1.0, growth_s=0.5)  # 1, 1.5, 2, 2.5
    assert stretch.end == 17.0
    assert stretch.length(3) == 4.5


@pytest.mark.parametrize(
    ("at", "begun", "ended"),
    [(10.0, 1, 0), (10.5, 1, 0), (11.0, 1, 1), (11.25, 2, 1), (12.5, 2, 2), (14.5, 3, 3), (17.0, 4, 4), (99.0, 4, 4)],
)
def test_a_step_in_progress_has_begun_and_not_ended(at: float, begun: int, ended: int) -> None:
    stretch = Stretch(10.0, 4, first_s=1.0, growth_s=0.5)
    assert (stretch.begun_by(at), stretch.ended_by(at)) == (begun, ended)


@given(st.floats(1e-4, 1.0), st.floats(0.0, 0.1), st.integers(1, 64), st.floats(0.0, 100.0))
def test_it_is_as_counting_the_steps_one_by_one(first_s: float, growth_s: float, steps: int, at: float) -> None:
    stretch = Stretch(1.0, steps, first_s, growth_s)
    counted = 1
    while counted < steps and 1.0 + stretch.length(counted) < at:
        counted += 1
    assert stretch.begun_by(at) == counted
