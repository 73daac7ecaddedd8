"""Canaries in virtual time: requests of two deployments, second by second, from a seed."""

import random
from dataclasses import dataclass, field

import pytest

from pileus.observability.latency import LatencyCounts
from pileus.scheduling.canary import ALPHA, Act, Counts, Decision, Plan, Watch
from pileus.scheduling.traffic import steps

PLAN = Plan(weights=steps(0.1), hold_s=120.0, least_requests=20)


@dataclass
class Behaviour:
    """How a deployment answers."""

    errors: float = 0.01
    ttft_s: float = 0.2
    requests: int = 0
    failed: int = 0
    ttft: LatencyCounts = field(default_factory=LatencyCounts)

    def serve(self, chance: random.Random) -> None:
        self.requests += 1
        if chance.random() < self.errors:
            self.failed += 1
        else:
            self.ttft.add(self.ttft_s * chance.lognormvariate(0, 0.4))

    @property
    def counts(self) -> Counts:
        return Counts(self.requests, self.failed, self.ttft.copy())


def life(stable: Behaviour, canary: Behaviour, seed: int = 0, per_s: int = 5) -> tuple[Decision, float, int]:
    """A canary's until it is whole or gone: how it ended, when, and at which step."""
    chance = random.Random(seed)
    for _ in range(200):  # what came before
        stable.serve(chance)
    now = 0.0
    for step, weight in enumerate(PLAN.weights):
        watch = Watch(PLAN, step, stable.counts, canary.counts, now)
        decision = Decision(Act.HOLD)
        while decision.act is Act.HOLD and now < 3600:
            now += 1.0
            for _ in range(per_s):
                (canary if chance.random() < weight else stable).serve(chance)
            decision = watch.observe(stable.counts, canary.counts, now)
        if decision.act is not Act.ADVANCE:
            return decision, now, step
    raise AssertionError("it never ended")


def test_a_good_canary_becomes_whole_after_its_steps() -> None:
    decision, took_s, step = life(Behaviour(), Behaviour())
    assert decision.act is Act.FINISH
    assert took_s == 3 * PLAN.hold_s
    assert step == 2


def test_good_canaries_are_seldom_rolled_back() -> None:
    wrong = sum(life(Behaviour(0.05), Behaviour(0.05), seed)[0].act is Act.ROLL_BACK for seed in range(100))
    assert wrong <= 100 * ALPHA


def test_errors_roll_back_in_the_first_step() -> None:
    decision, took_s, step = life(Behaviour(), Behaviour(errors=0.3))
    assert decision.act is Act.ROLL_BACK
    assert "of its" in decision.reason
    assert "requests failed" in decision.reason
    assert (step, took_s < 60) == (0, True)


def test_latency_rolls_back_in_the_first_step() -> None:
    decision, took_s, step = life(Behaviour(), Behaviour(ttft_s=1.0))
    assert decision.act is Act.ROLL_BACK
    assert "answers began later than" in decision.reason
    assert (step, took_s < 60) == (0, True)


def test_what_slows_both_does_not_count_against_the_canary() -> None:
    """The slow bound is from better times: half of both's answers are beyond it."""
    before = Behaviour()
    chance = random.Random(1)
    for _ in range(200):
        before.serve(chance)
    slow = Behaviour(ttft_s=0.6, ttft=before.ttft.copy(), requests=before.requests)
    assert life(slow, Behaviour(ttft_s=0.6))[0].act is Act.FINISH


def test_a_canary_that_fails_alone_is_rolled_back_without_anything_to_compare_with() -> None:
    watch, nothing = Watch(PLAN, 0, Behaviour().counts, Behaviour().counts, 0.0), Behaviour().counts
    broken = Behaviour(errors=1.0)
    for second in range(1, 10):
        broken.serve(random.Random(second))
        if (decision := watch.observe(nothing, broken.counts, float(second))).act is Act.ROLL_BACK:
            break
    assert decision.reason == "3 of its 3 requests failed"


@pytest.mark.parametrize(("served", "act"), [(19, Act.HOLD), (20, Act.ADVANCE)])
def test_time_alone_is_not_enough(served: int, act: Act) -> None:
    canary = Behaviour(errors=0.0)
    watch = Watch(PLAN, 0, Behaviour().counts, canary.counts, 0.0)
    for _ in range(served):
        canary.serve(random.Random(3))
    assert watch.observe(Behaviour().counts, canary.counts, PLAN.hold_s - 1).act is Act.HOLD
    assert watch.observe(Behaviour().counts, canary.counts, 10 * PLAN.hold_s).act is act
