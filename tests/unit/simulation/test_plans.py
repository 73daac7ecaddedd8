"""What is changed in a run, as people write it."""

from collections.abc import Callable

import pytest

from pileus.core.records import Lane
from pileus.scheduling.fairness import Share
from pileus.simulation import plans
from pileus.simulation.run import Kill
from pileus.simulation.workload import AddedTenant, Surge


def test_plans_are_read_as_they_are_written() -> None:
    assert plans.surge("2x") == plans.surge("2") == Surge(2.0)
    assert plans.surge("1.5x@60") == Surge(1.5, 60.0)
    assert plans.kill("2@300") == Kill(2, 300.0)
    assert plans.kill("1@2.5+60") == Kill(1, 2.5, 60.0)
    assert plans.added_tenant("bob:0.5") == AddedTenant("bob", 0.5)
    assert plans.added_tenant("bob:2:batch") == AddedTenant("bob", 2.0, Lane.BATCH)
    assert plans.share("bob=2") == ("bob", Share(2.0))
    assert plans.share("bob=1:100") == ("bob", Share(1.0, 100.0))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (plans.surge, "twice"),
        (plans.surge, "0x"),
        (plans.surge, "-2x"),
        (plans.kill, "2"),
        (plans.kill, "1.5@3"),
        (plans.added_tenant, "bob"),
        (plans.added_tenant, "bob:0"),
        (plans.added_tenant, "bob:1:urgent"),
        (plans.share, "bob:2"),
        (plans.share, "bob=0"),
    ],
)
def test_what_is_no_plan_is_refused_with_what_was_written(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=text.split(":")[-1]):
        read(text)
