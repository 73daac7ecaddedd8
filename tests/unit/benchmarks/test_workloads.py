"""Every engine gets the same work, and a prefix cache finds only what the workload says."""

import pytest

from benchmarks.suites.engines import turns
from benchmarks.workloads import WORKLOADS, Workload, prompts, quick


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_prompts_are_the_same_for_everyone_and_of_the_length_asked_for(workload: Workload) -> None:
    asked = prompts(workload, 1)
    assert asked == prompts(workload, 1)
    assert len(asked.requests) == workload.concurrency
    assert {len(request) for request in asked.requests} == {workload.shared_tokens + workload.own_tokens}


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_no_prompt_begins_like_one_of_another_round_or_workload(workload: Workload) -> None:
    others = [prompts(other, number) for other in WORKLOADS for number in (1, 2)]
    seen = [each.requests[0][:16] for each in others]
    assert seen.count(prompts(workload, 1).requests[0][:16]) == 1


def test_only_the_cached_prefix_is_warmed_up() -> None:
    for workload in WORKLOADS:
        asked = prompts(workload, 1)
        begins_alike = asked.warm_up[:1024] == asked.requests[0][:1024]
        assert begins_alike == workload.cached


def test_requests_share_the_prefix_and_nothing_after_it() -> None:
    workload = next(each for each in WORKLOADS if each.shared_tokens)
    asked = prompts(workload, 1)
    assert len({request[: workload.shared_tokens] for request in asked.requests}) == 1
    assert len({request[workload.shared_tokens] for request in asked.requests}) > 1


def test_the_quick_form_is_smaller_and_never_empty() -> None:
    for workload in WORKLOADS:
        short = quick(workload)
        assert 1 <= short.concurrency <= workload.concurrency
        assert 1 <= short.output_tokens < workload.output_tokens


def test_over_the_rounds_everyone_is_first_once() -> None:
    engines = ["a", "b", "c"]
    rounds = [turns(engines, number) for number in (1, 2, 3)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
