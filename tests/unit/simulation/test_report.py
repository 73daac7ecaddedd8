"""What a run comes to."""

import numpy as np
import pytest

from pileus.core.records import Lane
from pileus.scheduling.fairness import Share
from pileus.simulation.outcomes import Outcomes
from pileus.simulation.plot import svg
from pileus.simulation.report import Targets, jain, report
from pileus.simulation.request import Ending, Request


def ended(
    outcomes: Outcomes,
    at: float,
    first_at: float | None,
    end: float,
    ending: Ending = Ending.FINISHED,
    tenant: str = "a",
    answer: int = 11,
) -> None:
    request = Request(at, 100, answer, tenant=tenant, lane=Lane.ON_DEMAND)
    request.first_at = first_at
    request.cached_tokens = 25 if first_at is not None else 0
    outcomes.add(request, ending, end)


@pytest.fixture
def outcomes() -> Outcomes:
    """Four requests in ten seconds: in time, late to begin, slow, refused."""
    made = Outcomes()
    ended(made, 0.0, 0.5, 1.5)
    ended(made, 1.0, 4.0, 5.0, tenant="b")
    ended(made, 2.0, 2.5, 10.0, tenant="b", answer=6)
    ended(made, 3.0, None, 3.0, Ending.REFUSED)
    made.replica_s, made.busy_s = 20.0, 5.0
    return made


def test_only_what_came_in_time_is_good(outcomes: Outcomes) -> None:
    judged = report(outcomes, "cost", 7, Targets(ttft_s=1.0, itl_s=0.2), {})
    assert (judged.policy, judged.seed, judged.requests) == ("cost", 7, 4)
    assert judged.endings["finished"] == 3
    assert judged.endings["refused"] == 1
    assert judged.attainment == 0.25
    assert judged.duration_s == 10.0
    assert (judged.tokens_per_s, judged.goodput_tokens_per_s) == (2.8, 1.1)
    assert (judged.requests_per_s, judged.goodput_requests_per_s) == (0.3, 0.1)
    assert judged.hit_rate == 0.25
    assert judged.utilisation == 0.25
    assert judged.ttft_s.p50 == 0.5
    assert judged.itl_s.p99 == pytest.approx(1.5, rel=0.05)


def test_tenants_are_told_one_by_one_with_the_busiest_first(outcomes: Outcomes) -> None:
    first, second = report(outcomes, "cost", 0, Targets(), {}).tenants
    assert {first.tenant, second.tenant} == {"a", "b"}
    assert (first.requests, first.finished, first.attainment) == (2, 1, 0.5)
    assert first.tokens == 111


def test_fairness_counts_work_by_weight(outcomes: Outcomes) -> None:
    # a: 100 + 4 * 11 = 144; b: 144 + 100 + 4 * 6 = 268
    assert report(outcomes, "cost", 0, Targets(), {}).jain == pytest.approx(jain(np.array([144.0, 268.0])))
    shares = {"b": Share(weight=268 / 144)}
    assert report(outcomes, "cost", 0, Targets(), shares).jain == pytest.approx(1.0)


def test_jains_index_is_one_for_equals_and_a_share_for_one_alone() -> None:
    assert jain(np.array([5.0, 5.0, 5.0])) == pytest.approx(1.0)
    assert jain(np.array([5.0, 0.0, 0.0])) == pytest.approx(1 / 3)
    assert jain(np.array([0.0, 0.0])) == 1.0


def test_a_run_in_which_nothing_was_served_has_a_report_too() -> None:
    made = Outcomes()
    ended(made, 0.0, None, 0.0, Ending.REFUSED)
    judged = report(made, "cost", 0, Targets(), {})
    assert (judged.attainment, judged.ttft_s.p99, judged.hit_rate) == (0.0, 0.0, 0.0)
    assert svg({"cost": made}, Targets()).startswith("<svg")


def test_the_plot_has_a_line_for_each_policy_in_each_panel(outcomes: Outcomes) -> None:
    drawn = svg({"cost": outcomes, "a <b>": outcomes}, Targets())
    assert drawn.count("<polyline") == 4
    assert "a &lt;b&gt;" in drawn
    assert "nan" not in drawn
