"""When those who are refused come back."""

from itertools import pairwise

import pytest

from pileus.scheduling.returns import Returns


def test_who_is_refused_together_comes_back_one_after_the_other() -> None:
    returns = Returns()
    told = [returns.after_s("t", 1.0, 0.1, 0.07, now=5.0) for _ in range(100)]
    assert told[0] == 1.0
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert gaps == pytest.approx([0.1] * 99)  # longer than it takes: there is room for others


def test_a_line_gets_shorter_with_time_and_ends() -> None:
    returns = Returns()
    for _ in range(100):
        returns.after_s("t", 1.0, 0.0, 0.07, now=0.0)
    assert returns.after_s("t", 1.0, 0.0, 0.07, now=6.0) == pytest.approx(5.0)
    assert returns.after_s("t", 1.0, 0.0, 0.07, now=100.0) == 1.0
    assert len(returns) == 1


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    returns = Returns()
    assert max(returns.after_s("t", 1.0, 0.0, 1.0, now=0.0) for _ in range(500)) == 60.0
    assert returns.after_s("t", 1.0, 500.0, 1.0, now=0.0) == 60.0


def test_one_tenants_line_is_not_anothers() -> None:
    returns = Returns()
    for _ in range(500):
        returns.after_s("noisy", 1.0, 0.0, 0.1, now=0.0)
    assert returns.after_s("quiet", 1.0, 0.2, 0.1, now=0.0) == 1.0


def test_tenants_with_lines_share_by_weight() -> None:
    returns = Returns()
    for tenant, weight in (("a", 3.0), ("b", 1.0)):
        returns.after_s(tenant, weight, 0.0, 0.0, now=0.0)
    told = {
        tenant: [returns.after_s(tenant, weight, 0.0, 0.0525, now=0.0) for _ in range(3)]
        for tenant, weight in (("a", 3.0), ("b", 1.0))
    }
    assert told["a"][2] - told["a"][1] == pytest.approx(0.1)
    assert told["b"][2] - told["b"][1] == pytest.approx(0.3)


def test_lines_of_the_past_are_forgotten() -> None:
    returns = Returns()
    for number in range(1000):
        returns.after_s(f"t{number}", 1.0, 0.0, 0.001, now=number / 10)
    assert len(returns) < 100
