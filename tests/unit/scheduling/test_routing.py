"""Which replica takes a request."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.outliers import BASE_S, FAILURES
from pileus.scheduling.prefixes import CHUNK_TOKENS, PrefixIndex, chain
from pileus.scheduling.routing import Load, Need, Router, RoutingPolicy, _Replica

SLOTS, BLOCKS = 8, 100
WARM = 1000.0  # long after every replica became ready


def router(count: int = 3, policy: RoutingPolicy = RoutingPolicy.COST) -> Router:
    made = Router(policy)
    for number in range(count):
        made.add(f"r{number}", SLOTS, BLOCKS, 0.0)
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
    made.update("r0", Load(6, 90, prefill_tokens=4000))
    made.update("r1", Load(2, 90))
    assert made.choose(need(100), WARM, 0.0) == "r1"


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
    made.add("new", SLOTS, BLOCKS, WARM)
    made.update("r0", Load(4, 90, prefill_tokens=10))
    assert made.choose(need(), WARM, 0.0) == "r0"
    assert made.choose(need(), WARM + 20, 0.0) == "new"


def test_a_replica_that_was_removed_is_never_chosen() -> None:
    made = router(40)
    for number in range(39):
        made.remove(f"r{number}")
    assert {made.choose(need(), WARM, draw / 10) for draw in range(10)} == {"r39"}


# --- prefixes -------------------------------------------------------------------------------------------------------


def test_a_shared_prefix_draws_requests_to_the_replica_that_has_it() -> None:
    made = router()
    wanted = need(5 * CHUNK_TOKENS, chain(prompt_of(1, 2, 3, 4), b""))
    made.placed("r2", wanted)
    made.update("r2", Load(4, 80))
    assert made.choose(wanted, WARM, 0.0) == "r2"
    assert made.choose(need(5 * CHUNK_TOKENS, chain(prompt_of(9, 2, 3, 4), b"")), WARM, 0.0) != "r2"


def test_a_hot_prefix_spreads_when_its_holder_is_busy() -> None:
    made = router()
    wanted = need(4 * CHUNK_TOKENS, chain(prompt_of(1, 2, 3), b""))
    made.placed("r0", wanted)
    made.update("r0", Load(2, 50, prefill_tokens=5 * CHUNK_TOKENS))
    assert made.choose(wanted, WARM, 0.0) in ("r1", "r2")


def test_another_tenants_prefix_draws_nothing() -> None:
    assert not set(chain(prompt_of(1, 2), b"a")).intersection(chain(prompt_of(1, 2), b"b"))


def test_the_last_token_is_never_counted_as_held() -> None:
    assert len(chain([7] * CHUNK_TOKENS, b"")) == 0
    assert len(chain([7] * (CHUNK_TOKENS + 1), b"")) == 1


def test_a_prefix_is_held_as_far_as_it_is_the_same() -> None:
    index = PrefixIndex()
    index.add(chain(prompt_of(1, 2, 3), b""), "a")
    index.add(chain(prompt_of(1, 2, 9), b""), "b")
    index.add(chain(prompt_of(1), b""), "c")
    found = index.matches(chain(prompt_of(1, 2, 9, 9), b""))
    assert found == {"a": 2 * CHUNK_TOKENS, "b": 3 * CHUNK_TOKENS, "c": CHUNK_TOKENS}
    index.forget("b")
    assert index.matches(chain(prompt_of(1, 2, 9), b"")) == {"a": 2 * CHUNK_TOKENS, "c": CHUNK_TOKENS}


def test_the_memory_is_bounded_and_forgets_the_ends_of_old_prompts_first() -> None:
    index = PrefixIndex(capacity=10)
    for number in range(50):
        index.add(chain(prompt_of(1, 2, number), b""), "a")
        assert len(index) <= 10
    assert index.matches(chain(prompt_of(1, 2, 0), b"")) == {"a": 2 * CHUNK_TOKENS}


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


@pytest.mark.parametrize("policy", RoutingPolicy)
def test_every_policy_finds_a_replica_that_fits(policy: RoutingPolicy) -> None:
    made = router(3, policy)
    made.update("r0", Load(0, 0))
    made.update("r1", Load(0, 0))
    assert made.choose(need(), WARM, 0.5) == "r2"


def test_round_robin_goes_round() -> None:
    made = router(3, RoutingPolicy.ROUND_ROBIN)
    order = []
    for _ in range(6):
        replica = made.choose(need(), WARM, 0.0)
        assert replica is not None
        made.placed(replica, need())
        order.append(replica)
    assert order == ["r0", "r1", "r2"] * 2


def test_a_decision_among_a_thousand_replicas_looks_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    made = router(1000)
    wanted = need(16 * CHUNK_TOKENS + 1, chain(prompt_of(*range(16)), b""))
    for number in range(1000):
        made.placed(f"r{number}", wanted)
    looked_at = Counter[str]()
    really = _Replica.takes

    def takes(replica: _Replica, wanted: Need) -> bool:
        looked_at[replica.id] += 1
        return really(replica, wanted)

    monkeypatch.setattr(_Replica, "takes", takes)
    assert made.choose(wanted, WARM, 0.3) is not None
    assert sum(looked_at.values()) <= 20
