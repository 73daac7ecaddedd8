"""Virtual token counters and guaranteed rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.fairness import Guarantee, TokenCounters


def serve(counters: TokenCounters, amounts: dict[str, float]) -> str:
    """Serve whoever is next with what that tenant's requests take."""
    tenant = counters.next()
    assert tenant is not None
    counters.charge(tenant, amounts[tenant])
    return tenant


def test_who_asks_for_more_at_once_is_served_less_often() -> None:
    counters = TokenCounters()
    counters.enter("large")
    counters.enter("small")
    served = [serve(counters, {"large": 300, "small": 100}) for _ in range(400)]
    assert served.count("small") == 3 * served.count("large")


def test_a_heavier_tenant_is_served_in_proportion_to_its_weight() -> None:
    counters = TokenCounters()
    counters.enter("a")
    counters.enter("b")
    served = []
    for _ in range(300):
        tenant = counters.next()
        assert tenant is not None
        counters.charge(tenant, 10, weight=2.0 if tenant == "a" else 1.0)
        served.append(tenant)
    assert served.count("a") == 2 * served.count("b")


def test_a_tenant_that_was_away_has_saved_nothing_up() -> None:
    counters = TokenCounters()
    counters.enter("busy")
    for _ in range(100):
        serve(counters, {"busy": 10})
    counters.enter("back")
    served = [serve(counters, {"busy": 10, "back": 10}) for _ in range(100)]
    assert served.count("back") == pytest.approx(50, abs=1)


def test_leaving_and_coming_back_gains_nothing() -> None:
    counters = TokenCounters()
    counters.enter("stays")
    counters.enter("hops")
    served = []
    for _ in range(100):
        served.append(serve(counters, {"stays": 10, "hops": 10}))
        counters.leave("hops")
        counters.enter("hops")
    assert served.count("hops") == pytest.approx(50, abs=1)


def test_nobody_is_next_when_nobody_waits() -> None:
    counters = TokenCounters()
    counters.enter("a")
    counters.charge("a", 10)
    counters.leave("a")
    assert counters.next() is None


def test_counters_of_tenants_that_went_away_are_forgotten() -> None:
    counters = TokenCounters()
    for number in range(10_000):
        counters.enter(f"t{number}")
        counters.charge(f"t{number}", 1.0)
        counters.leave(f"t{number}")
    assert len(counters._counters) < 200


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["enter", "leave", "serve"])), max_size=80))
def test_next_is_whoever_waits_with_the_least(steps: list[tuple[str, str]]) -> None:
    counters = TokenCounters()
    for tenant, step in steps:
        if step == "enter":
            counters.enter(tenant)
        elif step == "leave":
            counters.leave(tenant)
        else:
            counters.charge(tenant, 7)
        waiting = counters._waiting
        following = counters.next()
        if waiting:
            assert following is not None
            assert counters._counters[following] == min(counters._counters[name] for name in waiting)
        else:
            assert following is None


def test_a_guaranteed_rate_is_met_and_not_exceeded() -> None:
    guarantee = Guarantee(tokens_per_s=100)
    served = 0
    for tenth in range(1000):
        while guarantee.holds(tenth / 10):
            guarantee.spend(20)
            served += 20
    assert served == pytest.approx(100 * 100, rel=0.06)  # a short burst at the beginning


def test_what_a_guarantee_leaves_unused_is_not_saved_up_for_ever() -> None:
    guarantee = Guarantee(tokens_per_s=100)
    guarantee.holds(0.0)
    guarantee.holds(3600.0)
    served = 0
    while guarantee.holds(3600.0):
        guarantee.spend(20)
        served += 20
    assert served <= 600
