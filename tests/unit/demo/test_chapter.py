"""Figures and their goals."""

from pathlib import Path
from typing import Any

import pytest

from pileus.demo.chapter import Stage
from pileus.demo.scale import FULL, QUICK, Scale

NO_CLOUD: Any = None


def stage(scale: Scale = FULL) -> Stage:
    return Stage(NO_CLOUD, Path(), scale)


@pytest.mark.parametrize(("value", "holds"), [(0.89, False), (0.9, True), (1.0, True)])
def test_a_goal_holds_from_its_bound_on(value: float, holds: bool) -> None:
    figure = stage().figure("right", value, "90%", "at least 90%", least=0.9)
    assert (figure.goal, figure.holds) == ("at least 90%", holds)


def test_a_goal_may_have_an_upper_bound() -> None:
    assert not stage().figure("before", 0.31, "31%", "at most 30%", most=0.3).holds
    assert stage().figure("before", 0.3, "30%", "at most 30%", most=0.3).holds


def test_a_quick_run_holds_no_goals() -> None:
    figure = stage(QUICK).figure("right", 0.1, "10%", "at least 90%", least=0.9)
    assert (figure.goal, figure.holds) == ("", True)
