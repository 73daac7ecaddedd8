"""Which sequences run next."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pileus.core.records import Lane
from pileus.scheduling.step import choose_victim, plan_step, urgency


@dataclass(frozen=True)
class Work:
    arrival: int
    pending: int
    lane: Lane = Lane.ON_DEMAND


works = st.lists(
    st.builds(Work, arrival=st.integers(0, 99), pending=st.integers(0, 600), lane=st.sampled_from(Lane)), max_size=40
)


@given(works, st.integers(1, 512))
def test_a_step_never_exceeds_its_budget_and_nobody_gets_more_than_it_can_use(work: list[Work], budget: int) -> None:
    plan = plan_step(work, budget)
    assert sum(tokens for _, tokens in plan) <= budget
    assert all(0 < tokens <= sequence.pending for sequence, tokens in plan)
    assert len({id(sequence) for sequence, _ in plan}) == len(plan)


@given(works, st.integers(1, 512))
def test_no_budget_is_left_while_someone_could_use_it(work: list[Work], budget: int) -> None:
    used = sum(tokens for _, tokens in plan_step(work, budget))
    assert used == min(budget, sum(w.pending for w in work))


def test_decodes_run_in_every_step_however_long_a_prompt_is() -> None:
    decodes = [Work(arrival, 1) for arrival in range(10, 20)]
    prompt = Work(0, 5000)
    plan = plan_step([prompt, *decodes], 64)
    assert [sequence for sequence, _ in plan[:10]] == decodes
    assert plan[10:] == [(prompt, 54)]


def test_prompts_are_prefilled_in_order_of_lane_and_arrival() -> None:
    batch, late, early = Work(0, 50, Lane.BATCH), Work(9, 50), Work(3, 50)
    assert plan_step([batch, late, early], 120) == [(early, 50), (late, 50), (batch, 20)]


def test_continuous_work_is_prefilled_however_much_on_demand_work_comes_after_it() -> None:
    continuous = Work(0, 50, Lane.CONTINUOUS)
    assert plan_step([Work(1, 64), continuous, Work(2, 64)], 64)[0] == (continuous, 50)


def test_batch_work_decodes_with_what_urgent_work_leaves() -> None:
    batch = [Work(arrival, 1, Lane.BATCH) for arrival in range(4)]
    urgent, prompt = Work(9, 1), Work(10, 60)
    assert plan_step([*batch, prompt, urgent], 64) == [(urgent, 1), (prompt, 60), *((work, 1) for work in batch[:3])]


def test_the_youngest_of_the_least_urgent_lane_is_preempted() -> None:
    batch = [Work(1, 1, Lane.BATCH), Work(5, 1, Lane.BATCH)]
    assert choose_victim([Work(9, 1), *batch]) is batch[1]
    assert urgency(batch[0]) < urgency(batch[1])
