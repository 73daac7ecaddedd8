"""Which replica takes a request."""

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.config.settings import Routing
from pileus.scheduling.outliers import BASE_S, FAILURES
from pileus.scheduling.prefixes import CHUNK_TOKENS, MOST_MATCHES, chain
from pileus.scheduling.routing import Load, Need, Router, RoutingPolicy, _Replica

SLOTS, BLOCKS, BLOCK_SIZE = 8, 100, 32
WARM = 1000.0  # long after every replica became ready


def router(count: int = 3, policy: RoutingPolicy = RoutingPolicy.COST) -> Router:
    made = Router(policy)
    for number in range(count):
        made.add(f"r{number}", SLOTS, BLOCKS, BLOCK_SIZE, 0.0)
    return made


def need(prompt: int = 10, prefix: tuple[int, ...] = (), slots: int = 1, kv_blocks: int = 1) -> Need:
    return Need(slots, kv_blocks, prompt, prefix)


def prompt_of(*chunks: int) -> list[int]:
    return [chunk for chunk in chunks for _ in range(CHUNK_TOKENS)] + [0]


# --- load -----------------------------------------------------------------------------------------------------------


def test_the_emptiest_replica_is_chosen_where_nothing_is_shared() -> None:
    made = router()
    made.update("r0", Load(2, 90))
    made.update("r1", Load(6, 90))
    made.update("r2", Load(6, 10))
    assert made.choose(need(), WARM, 0.0) == "r1"


def test_prompts_that_wait_for_their_prefill_count_more_than_full_slots() -> None:
    made = router(2)
    made.placed("long", "r0", need(4000))
    made.update("r0", Load(6, 90))
    made.update("r1", Load(2, 90))
    assert made.choose(need(100), WARM, 0.0) == "r1"
    made.prefilled("long")
    assert made.choose(need(100), WARM, 0.0) == "r0"


def test_a_request_that_fits_nowhere_waits() -> None:
    made = router(2)
    made.update("r0", Load(1, 100))
    made.update("r1", Load(8 - 1, 0))
    assert made.choose(need(slots=2), WARM, 0.0) is None


def test_an_idle_replica_takes_what_is_foretold_to_need_too_much() -> None:
    assert router(1).choose(need(kv_blocks=1000), WARM, 0.0) == "r0"


def test_urgent_work_sees_what_batch_work_holds_as_free() -> None:
    made = router(2)
    made.update("r0", Load(0, 0, batch_slots=6, batch_kv_blocks=80))
    made.update("r1", Load(3, 90))
    assert made.choose(need(), WARM, 0.0) == "r0"
    assert made.choose(Need(1, 1, 10, urgent=False), WARM, 0.0) == "r1"


def test_a_replica_that_has_just_become_ready_gets_its_share_by_and_by() -> None:
    made = router(1)
    made.add("new", SLOTS, BLOCKS, BLOCK_SIZE, WARM)
    made.update("r0", Load(4, 90))
    made.placed("short", "r0", need(10))
    assert made.choose(need(), WARM, 0.0) == "r0"
    assert made.choose(need(), WARM + 20, 0.0) == "new"


def test_a_replica_that_was_removed_is_never_chosen() -> None:
    made = router(40)
    for number in range(39):
        made.remove(f"r{number}")
    assert {made.choose(need(), WARM, draw / 10) for draw in range(10)} == {"r39"}


# --- prefixes -------------------------------------------------------------------------------------------------------


def of_chunks(*chunks: int) -> Need:
    """A prompt with a beginning to share, and a token of its own."""
    return need(CHUNK_TOKENS * len(chunks) + 1, chain(prompt_of(*chunks), b""))


def test_a_shared_prefix_draws_requests_to_the_replica_that_has_it() -> None:
    made = router()
    made.placed("first", "r2", of_chunks(1, 2, 3, 4))
    made.prefilled("first")
    made.update("r2", Load(4, 80))
    assert made.choose(of_chunks(1, 2, 3, 4), WARM, 0.0) == "r2"
    assert made.choose(of_chunks(9, 2, 3, 4), WARM, 0.0) != "r2"


def test_a_request_follows_the_one_that_is_computing_their_common_beginning() -> None:
    made = router()
    made.placed("leader", "r2", of_chunks(1, 2, 3, 4))
    made.update("r2", Load(7, 90))
    assert made.choose(of_chunks(1, 2, 3, 4), WARM, 0.0) == "r2"


def test_who_follows_adds_only_its_own_part_to_what_the_replica_has_to_compute() -> None:
    made = router(2)
    made.placed("leader", "r0", of_chunks(1, 2, 3, 4))
    for number in range(8):
        made.placed(number, "r0", of_chunks(1, 2, 3, 4))
    made.placed("other", "r1", need(5 * CHUNK_TOKENS))
    assert made.choose(need(100), WARM, 0.0) == "r0"


def test_nobody_follows_a_leader_that_left_before_it_had_computed_anything() -> None:
    made = router()
    made.placed("leader", "r2", of_chunks(1, 2, 3, 4))
    made.left("leader")
    made.update("r2", Load(7, 90))
    assert made.choose(of_chunks(1, 2, 3, 4), WARM, 0.0) != "r2"


def test_when_its_leader_leaves_a_follower_leads_the_others() -> None:
    made = router()
    for name in ("leader", "follower"):
        made.placed(name, "r2", of_chunks(1, 2, 3, 4))
    made.left("leader")
    made.update("r2", Load(7, 90))
    assert made.choose(of_chunks(1, 2, 3, 4), WARM, 0.0) == "r2"
    made.left("follower")
    assert made.choose(of_chunks(1, 2, 3, 4), WARM, 0.0) != "r2"


def test_what_was_computed_stays_when_its_request_ends() -> None:
    made = router()
    made.placed("first", "r2", of_chunks(1, 2, 3, 4))
    made.prefilled("first")
    made.left("first")
    made.update("r2", Load(7, 90))
    assert made.choose(of_chunks(1, 2, 3, 5), WARM, 0.0) == "r2"


def test_a_request_whose_replica_is_gone_may_leave_it() -> None:
    made = router(2)
    made.placed("lost", "r1", of_chunks(1, 2))
    made.remove("r1")
    made.left("lost")
    assert made.choose(of_chunks(1, 2), WARM, 0.0) == "r0"


def test_a_hot_prefix_spreads_when_its_holder_is_busy() -> None:
    made = router()
    made.placed("first", "r0", of_chunks(1, 2, 3))
    made.prefilled("first")
    made.placed("long", "r0", need(6 * CHUNK_TOKENS))
    assert made.choose(of_chunks(1, 2, 3), WARM, 0.0) in ("r1", "r2")


def test_a_conversation_finds_its_replica_though_everybody_has_its_beginning() -> None:
    made = router(100)
    for number in range(100):
        made.placed(number, f"r{number}", of_chunks(0, 0, 1000 + number, 1000 + number))
        made.prefilled(number)
    for number in (3, 50, 99):
        chosen = made.choose(of_chunks(0, 0, 1000 + number, 1000 + number, 5), WARM, 0.999)
        assert chosen == f"r{number}"


# --- outliers -------------------------------------------------------------------------------------------------------


def fail(made: Router, replica: str, now: float, times: int = FAILURES) -> bool:
    return [made.outliers.observe(replica, ok=False, now=now) for _ in range(times)][-1]


def test_a_replica_that_fails_again_and_again_sits_out_and_comes_back() -> None:
    made = router(2)
    assert fail(made, "r0", WARM)
    made.update("r1", Load(1, 10))
    assert made.choose(need(), WARM, 0.0) == "r1"
    assert made.choose(need(), WARM + 2 * BASE_S, 0.0) == "r0"
    assert fail(made, "r0", WARM + BASE_S)
    assert made.outliers.out("r0", WARM + 2 * BASE_S)


def test_a_success_between_failures_keeps_it_in() -> None:
    made = router(2)
    fail(made, "r0", WARM, FAILURES - 1)
    made.outliers.observe("r0", ok=True, now=WARM)
    assert not fail(made, "r0", WARM, FAILURES - 1)


def test_never_more_than_half_of_them_sit_out() -> None:
    made = router(4)
    assert [fail(made, f"r{number}", WARM) for number in range(4)] == [True, True, False, False]


def test_who_comes_back_from_sitting_out_gets_its_share_by_and_by() -> None:
    made = router(2)
    fail(made, "r0", WARM)
    made.update("r1", Load(4, 90))
    assert made.choose(need(), WARM + BASE_S, 0.0) == "r1"
    assert made.choose(need(), WARM + BASE_S + 10, 0.0) == "r0"


def measure(made: Router, now: float, **steps_s: float) -> list[bool]:
    """Whether each sits out by these steps, of which every one has a token."""
    return [made.outliers.measured(name, step_s, step_s, now) for name, step_s in steps_s.items()]


def test_a_replica_that_is_much_slower_than_the_others_sits_out() -> None:
    made = router(3)
    assert measure(made, WARM, r1=0.02, r2=0.03, r0=0.2) == [False, False, True]
    made.update("r1", Load(1, 10))
    made.update("r2", Load(1, 10))
    assert made.choose(need(), WARM, 0.0) in ("r1", "r2")


def test_the_first_that_is_measured_is_judged_when_the_others_were() -> None:
    made = router(2)
    assert measure(made, WARM, r0=0.2, r1=0.02) == [False, False]
    assert measure(made, WARM + 2, r0=0.21, r1=0.021) == [True, False]


@pytest.mark.parametrize(
    ("step_s", "token_s"), [(0.2, 0.002), (0.03, 0.03), (0.009, 0.009)], ids=["prefill", "few sequences", "in no time"]
)
def test_long_steps_with_many_tokens_and_long_tokens_in_short_steps_are_no_slowness(
    step_s: float, token_s: float
) -> None:
    made = router(3)
    for name in ("r1", "r2"):
        made.outliers.measured(name, 0.02 if step_s > 0.01 else 0.001, 0.001, WARM)
    assert not made.outliers.measured("r0", step_s, token_s, WARM)


def test_who_sits_out_serves_when_nobody_else_can() -> None:
    made = router(2)
    fail(made, "r0", WARM)
    made.update("r1", Load(0, 0))
    assert made.choose(need(), WARM, 0.0) == "r0"


# --- many -----------------------------------------------------------------------------------------------------------


def test_among_many_the_load_stays_even() -> None:
    made = router(200)
    taken = Counter[str]()
    for step in range(800):
        replica = made.choose(need(), WARM, (step * 0.7548776662466927) % 1.0)
        assert replica is not None
        taken[replica] += 1
        made.update(replica, Load(SLOTS - taken[replica], BLOCKS - taken[replica]))
    assert max(taken.values()) <= 6


@given(st.data())
def test_a_replica_with_room_is_found_however_full_the_others_are(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    roomy = data.draw(st.sets(st.integers(0, count - 1)))
    made = router(count)
    for number in range(count):
        made.update(f"r{number}", Load(4, 50) if number in roomy else Load(0, 0))
    chosen = made.choose(need(), WARM, data.draw(st.floats(0, 1, exclude_max=True)))
    assert (chosen is None) == (not roomy)
    assert chosen is None or int(chosen[1:]) in roomy
    assert made.full == (not roomy)


@pytest.mark.parametrize("policy", RoutingPolicy)
def test_every_policy_finds_a_replica_that_fits(policy: RoutingPolicy) -> None:
    made = router(3, policy)
    made.update("r0", Load(0, 0))
    made.update("r1", Load(0, 0))
    assert made.choose(need(), WARM, 0.5) == "r2"


def test_every_policy_can_be_set() -> None:
    assert get_args(Routing.model_fields["policy"].annotation) == tuple(RoutingPolicy)


def test_round_robin_goes_round() -> None:
    made = router(3, RoutingPolicy.ROUND_ROBIN)
    order = []
    for _ in range(6):
        replica = made.choose(need(), WARM, 0.0)
        assert replica is not None
        made.placed(object(), replica, need())
        order.append(replica)
    assert order == ["r0", "r1", "r2"] * 2


def test_a_decision_among_a_thousand_replicas_looks_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    made = router(1000)
    wanted = of_chunks(*range(16))
    for number in range(1000):
        made.placed(number, f"r{number}", wanted)
        made.prefilled(number)
    looked_at = Counter[str]()
    really = _Replica.takes

    def takes(replica: _Replica, wanted: Need) -> bool:
        looked_at[replica.id] += 1
        return really(replica, wanted)

    monkeypatch.setattr(_Replica, "takes", takes)
    assert made.choose(wanted, WARM, 0.3) is not None
    assert sum(looked_at.values()) <= 12 + MOST_MATCHES
