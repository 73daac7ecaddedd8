"""Whole runs: times as computed by hand, one ending for each request, the same result from the same seed."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.core.records import Lane
from pileus.scheduling.bounds import Bounds
from pileus.scheduling.fairness import Share
from pileus.scheduling.routing import RoutingPolicy
from pileus.simulation.calibration import Calibration
from pileus.simulation.outcomes import Outcomes
from pileus.simulation.request import Ending, Request, names_of
from pileus.simulation.run import Cluster, Kill, Simulation

ENGINE = Calibration(
    slots=2, kv_blocks=64, block_size=4, step_tokens=8, step_s=1.0, prefill_token_s=0.125, decode_sequence_s=0.5
)
WIDE = Bounds(10_000, 10_000_000, 1e6, 1e6)


def simulated(
    requests: Sequence[Request],
    replicas: int = 1,
    engine: Calibration = ENGINE,
    bounds: Bounds = WIDE,
    policy: RoutingPolicy = RoutingPolicy.COST,
    kills: Sequence[Kill] = (),
    seed: int = 0,
    **shares: Share,
) -> Outcomes:
    cluster = Cluster(replicas=replicas, engine=engine, bounds=bounds, shares=shares)
    return Simulation(cluster, policy, seed, kills).run(sorted(requests, key=lambda request: request.at))


def endings(outcomes: Outcomes) -> dict[Ending, int]:
    return {ending: count for ending in Ending if (count := int(outcomes.ended(ending).sum()))}


# --- by hand --------------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_engine() -> None:
    outcomes = simulated([Request(10.0, 20, 3)])
    assert outcomes.ttft_s.tolist() == [5.5]
    assert outcomes.end.tolist() == [10.0 + 8.5]
    assert outcomes.itl_s.tolist() == [1.5]
    assert (outcomes.replica_s, outcomes.busy_s) == (18.5, 8.5)


def test_the_way_to_the_queue_takes_its_time() -> None:
    outcomes = simulated([Request(10.0, 8, 1)], engine=Calibration(step_s=1.0, prefill_token_s=0.0, request_s=0.25))
    assert outcomes.ttft_s.tolist() == [1.25]


def test_the_third_waits_in_the_queue_for_one_of_two_slots() -> None:
    first, second, third = (Request(0.0, 4, answer) for answer in (2, 3, 1))
    simulated([first, second, third])
    # 4 + 4 tokens until 2.0; both decode until 4.0, when the first ends. The engine goes on with the second alone
    # until 5.5, and only then hears of the third.
    assert (first.first_at, second.first_at) == (2.0, 2.0)
    assert third.first_at == 5.5 + 1.0 + 0.5


def test_two_replicas_take_one_each() -> None:
    first, second = Request(0.0, 4, 1), Request(0.0, 4, 1)
    simulated([first, second], replicas=2)
    assert first.first_at == second.first_at == 1.5


# --- endings --------------------------------------------------------------------------------------------------------


def test_beyond_the_bounds_requests_are_refused() -> None:
    outcomes = simulated([Request(0.0, 4, 5) for _ in range(6)], bounds=Bounds(3, 10_000, 1e6, 1e6))
    assert endings(outcomes) == {Ending.FINISHED: 5, Ending.REFUSED: 1}


def test_who_takes_more_of_a_full_queue_makes_room_for_others() -> None:
    many = [Request(0.0, 4, 5, tenant="many") for _ in range(5)]
    outcomes = simulated([*many, Request(0.0, 4, 5, tenant="one")], bounds=Bounds(3, 10_000, 1e6, 1e6))
    assert endings(outcomes) == {Ending.FINISHED: 5, Ending.DISPLACED: 1}
    assert outcomes.tenants[outcomes.tenant[outcomes.ended(Ending.DISPLACED)][0]] == "many"


def test_who_waits_too_long_leaves() -> None:
    outcomes = simulated(
        [Request(0.0, 4, 30), Request(0.0, 4, 30), Request(1.0, 4, 1)], bounds=Bounds(9, 999, 5.0, 5.0)
    )
    assert endings(outcomes) == {Ending.FINISHED: 2, Ending.EXPIRED: 1}
    assert outcomes.end[outcomes.ended(Ending.EXPIRED)].tolist() == [6.0]


def test_what_fits_no_replica_is_refused() -> None:
    assert endings(simulated([Request(0.0, 200, 53), Request(0.0, 200, 52)])) == {
        Ending.TOO_LONG: 1,
        Ending.FINISHED: 1,
    }


# --- deaths ---------------------------------------------------------------------------------------------------------


def test_a_request_outlives_its_replica_and_loses_no_token() -> None:
    request = Request(0.0, 8, 5)
    outcomes = simulated([request], replicas=2, kills=[Kill(2, 6.0, back_after_s=4.0)])
    # Token 1 at 2.0, then at 3.5 and 5.0. From 10.0 on 8 + 3 tokens are computed again, then the fifth said.
    assert (request.first_at, request.emitted) == (2.0, 3)
    assert outcomes.end.tolist() == [10.0 + 2.0 + 1.375 + 1.5]
    assert outcomes.resumed == 1
    assert outcomes.replica_s == 2 * (6.0 + 4.875)


def test_a_request_that_was_there_at_two_deaths_is_given_up() -> None:
    kills = [Kill(1, at, back_after_s=1.0) for at in (3.0, 6.0)]
    outcomes = simulated([Request(0.0, 8, 50)], kills=kills)
    assert endings(outcomes) == {Ending.FAILED: 1}


def test_nobody_is_forgotten_in_a_full_queue_to_which_others_were_put_back() -> None:
    urgent, batch = Request(0.0, 8, 20), Request(1.0, 8, 20, lane=Lane.BATCH)
    running = Request(0.0, 8, 20)
    others = [Request(1.0, 8, 20, tenant="b") for _ in range(2)]
    newcomer = Request(5.0, 8, 20, tenant="b")
    kills = [Kill(1, 4.0, back_after_s=5.0)]
    outcomes = simulated([urgent, running, batch, *others, newcomer], bounds=Bounds(4, 999, 1e6, 1e6), kills=kills)
    assert Ending.UNSERVED not in endings(outcomes)


def test_batch_work_that_nobody_can_ever_serve_is_told_at_the_end() -> None:
    request = Request(0.0, 8, 5, lane=Lane.BATCH)
    outcomes = simulated([request], kills=[Kill(1, 1.0, back_after_s=float("inf"))])
    assert endings(outcomes) == {Ending.UNSERVED: 1}


# --- fairness and routing -------------------------------------------------------------------------------------------


def test_a_quiet_tenant_does_not_wait_behind_a_loud_one() -> None:
    loud = [Request(0.0, 8, 10, tenant="loud") for _ in range(50)]
    quiet = Request(1.0, 8, 10, tenant="quiet")
    simulated([*loud, quiet])
    assert quiet.first_at is not None
    assert quiet.first_at < sorted(request.first_at or 0.0 for request in loud)[5]


def test_a_tenant_that_holds_every_slot_gives_one_up_and_loses_no_token() -> None:
    loud = [Request(0.0, 4, 8, tenant="loud") for _ in range(2)]
    quiet = Request(5.75, 4, 2, tenant="quiet")
    outcomes = simulated([*loud, quiet])
    # Tokens at 2.0, 4.0 and 6.0; then the later of the two goes, and its third is lost. With the newcomer's prompt a
    # step takes 1.0 + 0.5 + 4 * 0.125, and another 2.0 its second token.
    assert (quiet.first_at, loud[1].first_at, loud[1].emitted) == (8.0, 2.0, 2)
    # Who gave way comes back at 11.5, has two of its six tokens computed again, and says six more.
    back = 11.5 + 1.0 + 0.5 + 2 * 0.125
    assert sorted(outcomes.end.tolist()) == [10.0, back + 2.0, back + 2.0 + 4 * 1.5]
    assert outcomes.exchanged == 1


def test_who_gives_way_before_it_was_received_has_said_nothing() -> None:
    loud = [Request(0.0, 4, 8, tenant="loud"), Request(0.5, 4, 8, tenant="loud")]
    quiet = Request(0.75, 4, 2, tenant="quiet")
    outcomes = simulated([*loud, quiet])
    assert outcomes.exchanged == 1
    assert quiet.first_at == 1.5 + 1.0 + 0.5 + 0.5
    assert loud[1].emitted == 0
    assert endings(outcomes) == {Ending.FINISHED: 3}


def test_what_the_step_in_progress_says_to_who_gives_way_is_lost() -> None:
    in_prompt = [Request(0.0, 4, 8, tenant="loud") for _ in range(2)]
    simulated([*in_prompt, Request(1.75, 4, 2, tenant="quiet")])
    assert in_prompt[1].first_at is not None
    assert in_prompt[1].first_at > 6.0
    at_its_end = [Request(0.0, 4, 2, tenant="loud") for _ in range(2)]
    outcomes = simulated([*at_its_end, Request(3.75, 4, 2, tenant="quiet")])
    assert endings(outcomes) == {Ending.FINISHED: 3}
    assert at_its_end[1].emitted == 1
    assert outcomes.end.min() == 4.0
    assert outcomes.end[1:].min() > 4.0


def conversations(count: int) -> list[Request]:
    """Prompts of 4 families, each with 1024 tokens in common."""
    return [
        Request(number * 0.3, 1100, 4, names=names_of(0, (number % 4, 1, number)), block_tokens=512)
        for number in range(count)
    ]


BIG = Calibration(slots=8, kv_blocks=400, block_size=16, step_tokens=256, step_s=0.01, prefill_token_s=0.001)


def test_policies_differ_where_prefixes_are_shared() -> None:
    hits = {
        policy: simulated(conversations(60), 4, BIG, policy=policy).cached_tokens.sum() / (60 * 1100)
        for policy in RoutingPolicy
    }
    assert hits[RoutingPolicy.COST] > 0.8
    assert hits[RoutingPolicy.PREFIX] > 0.8
    assert hits[RoutingPolicy.COST] > hits[RoutingPolicy.LEAST_LOADED]


def test_where_nothing_is_shared_ours_is_no_worse_than_least_loaded() -> None:
    p99 = {
        policy: np.percentile(
            simulated([Request(n * 0.1, 50 + n * 37 % 400, 8) for n in range(400)], 4, BIG, policy=policy).ttft_s, 99
        )
        for policy in (RoutingPolicy.COST, RoutingPolicy.LEAST_LOADED)
    }
    assert p99[RoutingPolicy.COST] <= 1.05 * p99[RoutingPolicy.LEAST_LOADED]


# --- properties -----------------------------------------------------------------------------------------------------

asked = st.lists(
    st.builds(
        lambda at, prompt, answer, tenant, lane, blocks: (at, prompt, answer, tenant, lane, tuple(blocks)),
        st.floats(0, 60),
        st.integers(1, 80),
        st.integers(1, 40),
        st.sampled_from("abc"),
        st.sampled_from(Lane),
        st.lists(st.integers(0, 1), max_size=3),
    ),
    min_size=1,
    max_size=30,
)
deaths = st.lists(st.builds(Kill, st.integers(1, 3), st.floats(0, 90), st.floats(0, 20)), max_size=3)
Asked = list[tuple[float, int, int, str, Lane, tuple[int, ...]]]


def made(what: Asked) -> list[Request]:
    return [
        Request(at, prompt, answer, tenant=tenant, lane=lane, names=names_of(0, blocks), block_tokens=16)
        for at, prompt, answer, tenant, lane, blocks in what
    ]


@settings(deadline=None)
@given(asked, deaths, st.integers(1, 4), st.sampled_from(RoutingPolicy))
def test_each_request_ends_exactly_once(what: Asked, kills: list[Kill], replicas: int, policy: RoutingPolicy) -> None:
    requests = made(what)
    outcomes = simulated(requests, replicas, bounds=Bounds(8, 500, 20.0, 20.0), policy=policy, kills=kills)
    assert Counter(outcomes.at.tolist()) == Counter(at for at, *_ in what)
    assert sum(endings(outcomes).values()) == len(what)
    assert all(made.emitted <= made.answer_tokens for made in requests)
    finished = outcomes.ended(Ending.FINISHED)
    assert (outcomes.ttft_s[finished] > 0).all()
    assert (outcomes.end[finished] > (outcomes.at + outcomes.ttft_s)[finished] - 1e-9).all()


@settings(deadline=None, max_examples=30)
@given(asked, deaths, st.integers(0, 3))
def test_equal_seeds_give_equal_runs(what: Asked, kills: list[Kill], seed: int) -> None:
    one, other = (simulated(made(what), 20, kills=kills, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(one.end, other.end)
    np.testing.assert_array_equal(one.ttft_s, other.ttft_s)
    assert one.busy_s == other.busy_s


def test_a_reserved_rate_goes_before_others() -> None:
    crowd = [Request(n * 0.5, 8, 10, tenant=f"t{n % 5}") for n in range(100)]
    reserved = [Request(n * 10.0, 8, 10, tenant="paid", lane=Lane.CONTINUOUS) for n in range(1, 5)]
    simulated([*crowd, *reserved], paid=Share(tokens_per_s=4.0))
    waits = [request.first_at - request.at for request in reserved if request.first_at is not None]
    assert len(waits) == 4
    assert max(waits) < 40.0 < max(request.first_at or 0.0 for request in crowd) / 10


@pytest.mark.parametrize("policy", RoutingPolicy)
def test_every_policy_serves_everybody(policy: RoutingPolicy) -> None:
    outcomes = simulated([Request(n * 0.1, 16, 8) for n in range(100)], 30, policy=policy)
    assert endings(outcomes) == {Ending.FINISHED: 100}
