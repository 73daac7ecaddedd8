"""The model of an engine: hand-computed small cases, and that many steps at once are as one by one.

Times are sums of powers of two, so that they are exact.
"""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pileus.core.records import Lane
from pileus.simulation.calibration import Calibration
from pileus.simulation.engine import MOST_STEPS, EngineModel
from pileus.simulation.request import Request, names_of

SMALL = Calibration(
    slots=4, kv_blocks=64, block_size=4, step_tokens=8, step_s=1.0, prefill_token_s=0.125, decode_sequence_s=0.5
)
BLOCK = 4  # tokens of the blocks that these prompts name


def request(at: float, prompt: int, answer: int, *blocks: int, lane: Lane = Lane.ON_DEMAND) -> Request:
    return Request(at, prompt, answer, names=names_of(0, blocks), block_tokens=BLOCK, lane=lane)


def play(
    requests: Sequence[Request], calibration: Calibration = SMALL, most_steps: int = MOST_STEPS
) -> tuple[EngineModel, dict[int, float]]:
    """All of it; when each ended, by its place in `requests`."""
    engine = EngineModel(calibration, most_steps=most_steps)
    coming = sorted(requests, key=lambda request: request.at)
    ends: dict[int, float] = {}
    while coming or engine.wakes_at < float("inf"):
        if coming and coming[0].at <= engine.wakes_at:
            engine.submit(coming[0], coming.pop(0).at)
            continue
        now = engine.wakes_at
        for ended in engine.advance(now):
            ends[next(place for place, other in enumerate(requests) if other is ended)] = now
    return engine, ends


# --- time -----------------------------------------------------------------------------------------------------------


def test_one_request_takes_its_chunks_and_then_a_step_for_each_token() -> None:
    alone = request(0.0, 20, 3)
    _, ends = play([alone])
    assert alone.first_at == 2.0 + 2.0 + 1.5  # 8, 8 and 4 tokens
    assert ends == {0: 5.5 + 1.5 + 1.5}


def test_who_comes_during_a_step_joins_at_its_end_and_shares_the_next() -> None:
    first, second = request(0.0, 20, 3), request(2.5, 4, 2)
    _, ends = play([first, second])
    assert first.first_at == second.first_at == 4.0 + 2.0  # 4 tokens of each, together
    assert ends == {1: 6.0 + 2.0, 0: 6.0 + 2.0 + 1.5}


def test_who_comes_while_others_decode_does_not_wait_for_their_ends() -> None:
    first, second = request(0.0, 8, 40), request(20.25, 8, 1)
    play([first, second])
    # Steps of 1.5 s from second 2; one ends at 21.5. Then 1 token of the first's, and 7 + 1 of the second's prompt.
    assert second.first_at == 21.5 + (1.0 + 0.5 + 0.875) + (1.0 + 0.5 + 0.125)


def test_context_that_is_read_lengthens_each_step() -> None:
    reading = Calibration(slots=4, kv_blocks=64, block_size=4, step_tokens=8, step_s=1.0, kv_read_s=0.5)
    alone = request(0.0, 8, 4)
    _, ends = play([alone], reading)
    first_s = 1.0 + 8 * 0.00022
    assert alone.first_at == pytest.approx(first_s)
    assert ends[0] - first_s == pytest.approx(3 * (1.0 + 0.0023) + 0.5 * (8 + 9 + 10))


def test_prompts_that_attend_to_long_contexts_take_longer() -> None:
    attending = Calibration(step_tokens=8, step_s=1.0, prefill_token_s=0.0, attention_s=0.25)
    alone = request(0.0, 16, 1)
    play([alone], attending)
    assert alone.first_at == 2.0 + 0.25 * (8 * 4 + 8 * 12)


def test_a_step_with_prompt_tokens_in_it_takes_longer() -> None:
    mixing = Calibration(step_tokens=8, step_s=1.0, prefill_token_s=0.0, decode_sequence_s=0.0, prefill_s=0.5)
    _, ends = play([request(0.0, 16, 3)], mixing)
    assert ends == {0: 1.5 + 1.5 + 1.0 + 1.0}


def test_a_step_of_another_number_of_tokens_than_the_one_before_takes_longer() -> None:
    changing = Calibration(step_tokens=8, step_s=1.0, prefill_token_s=0.0, decode_sequence_s=0.0, change_s=0.5)
    alone, later = request(0.0, 20, 4), request(50.0, 1, 2)
    _, ends = play([alone, later], changing)
    assert alone.first_at == 1.5 + 1.0 + 1.5  # 8, 8 and 4 tokens
    assert ends == {0: 4.0 + 1.5 + 1.0 + 1.0, 1: 50.0 + 1.0 + 1.0}  # and the last step before the pause had one


def test_beyond_its_slots_requests_wait_on_the_engine() -> None:
    one = Calibration(slots=1, kv_blocks=64, block_size=4, step_tokens=8, step_s=1.0)
    first, second = request(0.0, 4, 2), request(0.0, 4, 1)
    _, ends = play([first, second], one)
    assert second.first_at is not None
    assert second.first_at > ends[0]


# --- prefixes -------------------------------------------------------------------------------------------------------


def test_a_prefix_that_was_computed_is_not_computed_again() -> None:
    first, second = request(0.0, 17, 1, 1, 2, 3, 4), request(50.0, 19, 1, 1, 2, 3, 9)
    play([first, second])
    assert (first.cached_tokens, second.cached_tokens) == (0, 12)
    assert second.first_at == 50.0 + 1.0 + 7 * 0.125


def test_simultaneous_requests_wait_for_the_first_ones_prefix() -> None:
    first, second = request(0.0, 17, 1, 1, 2, 3, 4), request(0.0, 17, 1, 1, 2, 3, 4)
    play([first, second])
    assert first.first_at == 2.0 + 2.0 + (1.0 + 0.125 * 2)  # the rest of the step goes to the second's last token
    assert second.first_at == first.first_at
    assert second.cached_tokens == 16


def test_the_least_recently_used_prefix_is_evicted_from_its_end() -> None:
    tight = Calibration(slots=1, kv_blocks=8, block_size=4, step_tokens=64, step_s=1.0)  # 32 tokens
    one, two, three = (request(10.0 * n, 13, 1, 10 * n, 10 * n + 1, 10 * n + 2) for n in range(3))
    again = [request(30.0, 13, 1, 20, 21, 22), request(40.0, 13, 1, 0, 1, 2)]
    play([one, two, three, *again], tight)
    assert again[0].cached_tokens == 12
    assert again[1].cached_tokens == 4


# --- lanes and memory -----------------------------------------------------------------------------------------------


def test_batch_work_gives_its_slot_up_and_goes_on_where_it_was() -> None:
    one = Calibration(slots=1, kv_blocks=64, block_size=4, step_tokens=8, step_s=1.0, prefill_token_s=0.0)
    batch, urgent = request(0.0, 8, 20, lane=Lane.BATCH), request(5.0, 8, 2)
    engine, ends = play([batch, urgent], one)
    assert engine.preemptions == 1
    assert urgent.first_at is not None
    assert urgent.first_at - 5.0 < 2 * (1.0 + 0.0023)
    assert ends[1] < ends[0]
    assert engine.busy_s == pytest.approx(20 + 2, abs=0.5)  # its blocks were still there: nothing is computed twice


def test_the_youngest_yields_when_memory_runs_out() -> None:
    tight = Calibration(slots=4, kv_blocks=9, block_size=4, step_tokens=64, step_s=1.0)
    old, young = request(0.0, 8, 20), request(0.5, 8, 20)
    engine, ends = play([old, young], tight)
    assert engine.preemptions > 0
    assert ends[0] < ends[1]


def test_what_the_gateway_is_told_counts_what_it_has_just_sent() -> None:
    engine = EngineModel(SMALL)
    engine.submit(request(0.0, 10, 5), 0.0)
    load = engine.load()
    assert (load.free_slots, load.free_kv_blocks) == (3, 64 - 4)
    engine.advance(0.0)
    load = engine.load()
    assert (load.free_slots, load.free_kv_blocks) == (3, 64 - 3)


def test_a_prompt_counts_as_computed_with_its_first_token() -> None:
    engine = EngineModel(SMALL)
    asked = request(0.0, 10, 5)
    engine.submit(asked, 0.0)
    engine.advance(0.0)
    engine.advance(engine.wakes_at)
    assert engine.started == []  # 2 tokens are missing yet
    engine.advance(engine.wakes_at)
    assert engine.started == [asked]


def test_batch_work_is_told_apart() -> None:
    engine = EngineModel(SMALL)
    engine.submit(request(0.0, 10, 5, lane=Lane.BATCH), 0.0)
    engine.advance(0.0)
    assert (engine.load().batch_slots, engine.load().batch_kv_blocks) == (1, 3)


def test_who_dies_with_the_engine_has_said_what_whole_steps_have_said() -> None:
    engine = EngineModel(SMALL)
    running, sent = request(0.0, 8, 40), request(6.6, 8, 40)
    engine.submit(running, 0.0)
    engine.advance(0.0)
    engine.advance(engine.wakes_at)  # second 2, the first token; then one each 1.5 s
    engine.submit(sent, 6.6)
    assert engine.lose(6.75) == [running, sent]
    assert (running.emitted, sent.emitted) == (1 + 3, 0)


# --- properties -----------------------------------------------------------------------------------------------------

exact = Calibration(
    slots=3,
    kv_blocks=16,
    block_size=4,
    step_tokens=8,
    step_s=1.0,
    prefill_token_s=0.125,
    decode_sequence_s=0.5,
    kv_read_s=1 / 64,
    attention_s=1 / 256,
)
asked = st.lists(
    st.tuples(
        st.integers(0, 160).map(lambda quarter: quarter / 4),
        st.integers(1, 30),
        st.integers(1, 30),
        st.lists(st.integers(0, 1), max_size=7),
        st.sampled_from(Lane),
    ),
    min_size=1,
    max_size=12,
)
Asked = list[tuple[float, int, int, list[int], Lane]]


def made(what: Asked) -> list[Request]:
    return [request(at, prompt, answer, *blocks, lane=lane) for at, prompt, answer, blocks, lane in what]


# Batch work is preempted before its first token, while it follows another's prefix.
preempted: Asked = [
    *[(0.0, 1, 1, [], Lane.ON_DEMAND)] * 7,
    (0.0, 1, 4, [], Lane.ON_DEMAND),
    (6.75, 1, 1, [], Lane.ON_DEMAND),
    (3.0, 9, 1, [0, 0], Lane.BATCH),
    (3.0, 14, 2, [0, 0], Lane.ON_DEMAND),
]


@settings(deadline=None)
@given(asked)
@example(preempted)
@example([(0.0, 1, 30, [], Lane.ON_DEMAND), (0.0, 29, 1, [0] * 7, Lane.BATCH), (0.0, 29, 2, [0] * 7, Lane.BATCH)])
def test_many_steps_at_once_are_as_one_by_one(what: Asked) -> None:
    at_once, one_by_one = made(what), made(what)
    engine, ends = play(at_once, exact)
    stepped, stepped_ends = play(one_by_one, exact, most_steps=1)
    assert ends == stepped_ends
    assert [r.first_at for r in at_once] == [r.first_at for r in one_by_one]
    assert [r.cached_tokens for r in at_once] == [r.cached_tokens for r in one_by_one]
    assert (engine.preemptions, engine.busy_s) == (stepped.preemptions, stepped.busy_s)


@given(asked)
def test_every_request_ends_once_and_all_memory_comes_back(what: Asked) -> None:
    engine, ends = play(made(what), exact)
    assert ends.keys() == set(range(len(what)))
    assert engine._memory.available == exact.kv_tokens
    assert engine.load().free_slots == exact.slots
    assert engine._memory._cached_tokens == sum(engine._memory._cached.values()) <= exact.kv_tokens
    assert not engine._memory._holders
    assert not engine._memory._owners
