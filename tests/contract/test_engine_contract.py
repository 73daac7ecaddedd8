"""What every engine must keep to, whatever is inside it (`core.ports.Engine`)."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from contract.engines import ENGINES
from contract.running_engine import Answer, RunningEngine
from pileus.core.errors import ModelRefused
from pileus.core.ports import AdaptableEngine, AdapterSource
from pileus.core.records import ChoiceState, EngineRequest, FinishReason, Lane, SamplingParams
from pileus.models.adapter import Belonging, adapter_id
from pileus.models.low_rank import import_adapter
from pileus.models.progress import silent
from pileus.models.store import ModelStore
from pileus.testing.adapters import SMOLLM2, random_tensors, write_adapter

PROMPT = tuple(range(300, 340))
LONG = 400  # tokens that take much longer than a cancel


@pytest.fixture(scope="module", params=ENGINES)
def shared_engine(request: pytest.FixtureRequest) -> Iterator[RunningEngine]:
    engine = RunningEngine(ENGINES[request.param](request))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def smollm2_adapter(tmp_path_factory: pytest.TempPathFactory) -> AdapterSource:
    """For engines that compute: of the default model."""
    root = tmp_path_factory.mktemp("adapter")
    tensors = random_tensors(1, 4, ["q_proj", "down_proj"], 2, SMOLLM2, 0.3)
    folder, base = write_adapter(root / "peft", tensors, 4), Belonging(base="smollm2", base_sha256="")
    artefact = import_adapter(folder, "random", base, ModelStore(root / "models"), silent)
    return AdapterSource(adapter_id(artefact), str(artefact.path))


@pytest.fixture
def engine(shared_engine: RunningEngine) -> Iterator[RunningEngine]:
    """Each test gets an idle engine, and must leave it so: nothing held, nothing said after an end or twice."""
    yield shared_engine
    shared_engine.wait(lambda: all(answer.finished for answer in shared_engine.answers.values()))
    if shared_engine.outputs:
        assert shared_engine.outputs[-1].credit == shared_engine.full_credit
    stats = shared_engine.engine.stats()
    assert (stats.running, stats.waiting, stats.kv_blocks_used) == (0, 0, 0)
    for answer in shared_engine.answers.values():
        assert not answer.misplaced
        assert all(len(finishes) == 1 for finishes in answer.finishes.values())


def ask(
    prompt: tuple[int, ...] = PROMPT,
    *,
    choices: int | tuple[ChoiceState, ...] = 1,
    lane: Lane = Lane.ON_DEMAND,
    **wishes: Any,
) -> EngineRequest:
    """A request that draws among likely tokens: those of the far tail lie closer together than float32 can tell."""
    params = SamplingParams(**{"max_tokens": 8, "seed": 7, "temperature": 0.8, "top_k": 20, **wishes})
    if isinstance(choices, int):
        choices = tuple(ChoiceState(index) for index in range(choices))
    return EngineRequest(0, prompt, params, choices, lane=lane)


def begun(answer: Answer, tokens: int = 3) -> bool:
    return all(len(said) >= tokens for said in answer.tokens.values())


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [1, 2, 33])
def test_an_answer_has_exactly_max_tokens_and_says_length(engine: RunningEngine, max_tokens: int) -> None:
    [answer] = engine.run(ask(max_tokens=max_tokens))
    assert len(answer.only) == max_tokens
    assert answer.finish.reason is FinishReason.LENGTH
    assert all(0 <= token < engine.capabilities.vocab_size for token in answer.only)


def test_the_same_request_gets_the_same_answer_and_another_seed_another(engine: RunningEngine) -> None:
    first, again, other = engine.run(ask(max_tokens=16), ask(max_tokens=16), ask(max_tokens=16, seed=8))
    assert first.only == again.only != other.only


def test_a_stop_id_ends_the_answer_and_is_not_emitted(engine: RunningEngine) -> None:
    [free] = engine.run(ask(max_tokens=16))
    stop = free.only[5]
    [answer] = engine.run(ask(max_tokens=16, stop_ids=(stop,)))
    assert answer.only == free.only[: free.only.index(stop)]
    assert answer.finish.reason is FinishReason.STOP


@pytest.mark.parametrize("emitted", [1, 7, 15])
def test_an_answer_resumes_exactly_from_what_was_emitted(engine: RunningEngine, emitted: int) -> None:
    [whole] = engine.run(ask(max_tokens=16))
    [rest] = engine.run(ask(max_tokens=16, choices=(ChoiceState(0, tuple(whole.only[:emitted])),)))
    assert whole.only[:emitted] + rest.only == whole.only
    assert rest.finish.reason is FinishReason.LENGTH


def test_one_choice_of_several_resumes_alone(engine: RunningEngine) -> None:
    [whole] = engine.run(ask(choices=3))
    [rest] = engine.run(ask(choices=(ChoiceState(2, tuple(whole.tokens[2][:3])),)))
    assert rest.tokens == {2: whole.tokens[2][3:]}


def test_choices_differ_and_each_has_one_end(engine: RunningEngine) -> None:
    [answer] = engine.run(ask(choices=3, max_tokens=12))
    assert {len(tokens) for tokens in answer.tokens.values()} == {12}
    assert len({tuple(tokens) for tokens in answer.tokens.values()}) == 3
    assert sorted(answer.finishes) == [0, 1, 2]


def test_an_answer_does_not_depend_on_its_company(engine: RunningEngine) -> None:
    [alone] = engine.run(ask(max_tokens=12))
    together = engine.run(*(ask(PROMPT[i:], max_tokens=12) for i in range(6)))
    assert together[0].only == alone.only


@pytest.mark.parametrize("count", [0, 1, 5])
def test_logprobs_come_one_per_token_with_the_alternatives_in_order(engine: RunningEngine, count: int) -> None:
    [answer] = engine.run(ask(logprobs=count, choices=2))
    for choice, tokens in answer.tokens.items():
        assert len(answer.logprobs[choice]) == len(tokens)
        for entry in answer.logprobs[choice]:
            assert entry.logprob <= 0
            assert len(entry.top) == len({token for token, _ in entry.top}) == count
            assert [logprob for _, logprob in entry.top] == sorted((logprob for _, logprob in entry.top), reverse=True)


def test_no_logprobs_come_unasked(engine: RunningEngine) -> None:
    [answer] = engine.run(ask())
    assert answer.logprobs == {0: []}


def test_a_request_starts_once_and_its_cached_tokens_are_part_of_the_prompt(engine: RunningEngine) -> None:
    prompt = tuple(range(500, 600))
    for _ in range(2):
        [answer] = engine.run(ask(prompt, choices=2))
        [started] = answer.started
        assert 0 <= started.cached_tokens < len(prompt)
        assert started.wait_s >= 0
        assert started.prefill_s >= 0


# --- endings --------------------------------------------------------------------------------------------------------


def test_cancel_frees_slots_and_blocks_before_the_next_step(engine: RunningEngine) -> None:
    answer = engine.submit(ask(choices=2, max_tokens=LONG))
    engine.wait(lambda: begun(answer))
    known = engine.cancel(answer)
    engine.wait(lambda: answer.finished)
    ended = {finish for [finish] in answer.finishes.values()}
    [end] = [i for i, output in enumerate(engine.outputs) if ended.intersection(output.finishes)]
    assert end <= known + 1  # the step that was under way, and then the one that ends it
    assert engine.outputs[end].credit == engine.full_credit
    assert {finish.reason for finish in ended} == {FinishReason.CANCELLED}


def test_cancel_ends_a_request_that_still_waits(engine: RunningEngine) -> None:
    slots = engine.capabilities.slots
    running = [engine.submit(ask(max_tokens=LONG)) for _ in range(slots)]
    waiting = engine.submit(ask())
    engine.wait(lambda: all(map(begun, running)))
    engine.cancel(waiting)
    engine.wait(lambda: waiting.finished)
    assert waiting.finish.reason is FinishReason.CANCELLED
    assert waiting.only == []
    for answer in running:
        engine.cancel(answer)


def test_cancelling_one_request_leaves_the_others_as_they_were(engine: RunningEngine) -> None:
    [alone] = engine.run(ask(max_tokens=24))
    goes = engine.submit(ask(PROMPT[1:], max_tokens=LONG))
    stays = engine.submit(ask(max_tokens=24))
    engine.wait(lambda: begun(goes))
    engine.cancel(goes)
    engine.wait(lambda: stays.finished)
    assert stays.only == alone.only


def test_cancelling_one_choice_leaves_its_siblings_as_they_were(engine: RunningEngine) -> None:
    [whole] = engine.run(ask(choices=3, max_tokens=24))
    answer = engine.submit(ask(choices=3, max_tokens=24))
    engine.at(lambda: begun(answer), lambda: engine.cancel(answer, 1))
    engine.wait(lambda: answer.finished)
    assert answer.finishes[1][0].reason is FinishReason.CANCELLED
    assert len(answer.tokens[1]) < 24
    assert [answer.tokens[0], answer.tokens[2]] == [whole.tokens[0], whole.tokens[2]]
    assert engine.outputs[-1].credit == engine.full_credit


@pytest.mark.parametrize("choice", [0, 1])
def test_a_choice_can_be_cancelled_before_any_has_begun(engine: RunningEngine, choice: int) -> None:
    [whole] = engine.run(ask(choices=2, max_tokens=8))
    running = [engine.submit(ask(max_tokens=LONG)) for _ in range(engine.capabilities.slots)]
    answer = engine.submit(ask(choices=2, max_tokens=8))
    engine.wait(lambda: all(map(begun, running)))
    engine.cancel(answer, choice)
    for other in running:
        engine.cancel(other)
    engine.wait(lambda: answer.finished)
    assert answer.finishes[choice][0].reason is FinishReason.CANCELLED
    assert answer.tokens[choice] == []
    assert answer.tokens[1 - choice] == whole.tokens[1 - choice]
    assert len(answer.started) == 1
    assert not answer.misplaced


def test_cancelling_what_has_ended_or_never_was_does_nothing(engine: RunningEngine) -> None:
    [ended] = engine.run(ask())
    engine.cancel(ended)
    engine.engine.cancel(1 << 40)
    [answer] = engine.run(ask())
    assert answer.only == ended.only


def test_a_request_that_can_never_fit_ends_with_an_error(engine: RunningEngine) -> None:
    capabilities = engine.capabilities
    too_long = ask(tuple(100 + i % 100 for i in range(capabilities.max_context)))
    too_many = ask(choices=capabilities.slots + 1)
    for answer in engine.run(too_long, too_many, ask(())):
        assert {finish.reason for [finish] in answer.finishes.values()} == {FinishReason.ERROR}
        assert all(finish.error for [finish] in answer.finishes.values())
        assert not any(answer.tokens.values())


# --- lanes ----------------------------------------------------------------------------------------------------------


def test_urgent_work_takes_the_slot_of_batch_work_which_then_goes_on_as_if_nothing_had_been(
    engine: RunningEngine,
) -> None:
    slots = engine.capabilities.slots
    prompts = [(*PROMPT, number) for number in range(slots)]
    alone = [engine.run(ask(prompt, max_tokens=40))[0].only for prompt in prompts]
    batch = [engine.submit(ask(prompt, max_tokens=40, lane=Lane.BATCH)) for prompt in prompts]

    def submit() -> tuple[int, Answer]:
        return len(engine.outputs), engine.submit(ask(max_tokens=2))

    known, urgent = engine.at(lambda: all(map(begun, batch)), submit)
    engine.wait(lambda: bool(urgent.started))
    [start] = [i for i, output in enumerate(engine.outputs) if urgent.started[0] in output.started]
    assert start <= known + 2  # the step that was under way, and then the one that yields
    assert not any(output.finishes for output in engine.outputs[known : start + 1])
    engine.wait(lambda: all(answer.finished for answer in (urgent, *batch)))
    assert [answer.only for answer in batch] == alone
    assert all(len(answer.started) == 1 for answer in batch)


def test_batch_work_does_not_take_the_slots_of_anybody(engine: RunningEngine) -> None:
    running = [engine.submit(ask(max_tokens=LONG)) for _ in range(engine.capabilities.slots)]
    engine.wait(lambda: all(map(begun, running)))
    batch = engine.submit(ask(lane=Lane.BATCH))
    seen = len(engine.outputs)
    engine.wait(lambda: len(engine.outputs) > seen + 3)
    assert not batch.started
    for answer in running:
        engine.cancel(answer)
    engine.wait(lambda: batch.finished)


def test_credit_tells_what_batch_work_would_give_up(engine: RunningEngine) -> None:
    batch = engine.submit(ask(choices=2, max_tokens=LONG, lane=Lane.BATCH))
    urgent = engine.submit(ask(max_tokens=LONG))
    engine.wait(lambda: begun(batch) and begun(urgent))
    credit = engine.outputs[-1].credit
    assert (credit.slots, credit.batch_slots) == (engine.capabilities.slots - 3, 2)
    assert 0 < credit.batch_kv_blocks <= engine.capabilities.kv_blocks - credit.kv_blocks
    for answer in (batch, urgent):
        engine.cancel(answer)


# --- books ----------------------------------------------------------------------------------------------------------


def test_more_requests_than_slots_all_end(engine: RunningEngine) -> None:
    count = 3 * engine.capabilities.slots
    answers = engine.run(*(ask(seed=seed) for seed in range(count)))
    assert all(len(answer.only) == 8 for answer in answers)
    assert all(output.credit.slots <= engine.capabilities.slots for output in engine.outputs)


def test_credit_counts_the_submits_that_it_has_seen(engine: RunningEngine) -> None:
    engine.run(ask(), ask(), ask(()))
    assert engine.outputs[-1].credit.seen == len(engine.answers)


def test_the_counters_add_up(engine: RunningEngine) -> None:
    before = engine.engine.stats()
    [answer] = engine.run(ask(tuple(range(700, 750)), max_tokens=5))
    after = engine.engine.stats()
    assert after.generated_tokens - before.generated_tokens == 5
    assert after.prompt_tokens - before.prompt_tokens == 50
    assert after.prefix_hit_tokens - before.prefix_hit_tokens == answer.started[0].cached_tokens
    assert after.steps > before.steps
    assert after.step_s >= before.step_s


@pytest.mark.parametrize("name", ENGINES)
def test_the_figures_are_of_one_moment_whenever_another_thread_asks(name: str, request: pytest.FixtureRequest) -> None:
    engine = ENGINES[name](request)
    figures: set[tuple[bool, int]] = set()  # whether all is at rest, and the tokens generated by then

    def look(*_: object) -> Any:
        """What another thread would see that runs before this line."""
        now = engine.stats()
        figures.add((now.running == now.waiting == now.kv_blocks_used == 0, now.generated_tokens))
        return look

    engine.submit(replace(ask(max_tokens=3), id=1))
    before = sys.gettrace()
    sys.settrace(look)
    try:
        for output in engine.events():
            if output.finishes:
                engine.close()
    finally:
        sys.settrace(before)
    assert {generated for at_rest, generated in figures if at_rest} == {0, 3}


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_cancels_leaves_nothing_behind(engine: RunningEngine, seed: int) -> None:
    storm = random.Random(seed)
    answers: list[Answer] = []
    for _ in range(30):
        length = storm.randrange(1, 100)
        prompt = tuple(storm.randrange(100, 200) for _ in range(length))
        answers.append(engine.submit(ask(prompt, choices=storm.randrange(1, 4), max_tokens=storm.randrange(1, 20))))
        if storm.random() < 0.7:
            engine.cancel(storm.choice(answers))
        if storm.random() < 0.1:
            seen = len(engine.outputs)
            engine.wait(lambda: len(engine.outputs) > seen or all(answer.finished for answer in answers))  # noqa: B023
    for answer in storm.sample(answers, len(answers) // 2):
        engine.cancel(answer)
    engine.wait(lambda: all(answer.finished for answer in answers))


@pytest.mark.parametrize("name", ENGINES)
def test_events_end_after_close_whether_idle_or_at_work(name: str, request: pytest.FixtureRequest) -> None:
    for work in ((), (ask(max_tokens=LONG),)):
        engine = RunningEngine(ENGINES[name](request))
        answers = [engine.submit(wanted) for wanted in work]
        engine.wait(lambda: all(map(begun, answers)))  # noqa: B023
        engine.close()
        assert engine.ended


# --- adapters -------------------------------------------------------------------------------------------------------


def test_a_request_for_an_adapter_that_is_not_loaded_ends_with_an_error_that_names_it(engine: RunningEngine) -> None:
    odd, good = engine.run(replace(ask(), adapter="nobody@0"), ask())
    assert odd.finish.reason is FinishReason.ERROR
    assert "nobody@0" in odd.finish.error
    assert good.finish.reason is FinishReason.LENGTH


def test_an_adapter_that_is_not_there_is_refused(engine: RunningEngine, tmp_path: Path) -> None:
    if engine.capabilities.adapters:
        with pytest.raises(ModelRefused):
            cast(AdaptableEngine, engine.engine).load_adapter(AdapterSource("nobody@0", str(tmp_path / "nobody")))


def test_an_adapter_changes_what_is_said_and_leaves_others_alone(
    engine: RunningEngine, smollm2_adapter: AdapterSource
) -> None:
    if not engine.capabilities.adapters:
        pytest.skip("this engine has no adapters")
    adaptable = cast(AdaptableEngine, engine.engine)
    adaptable.load_adapter(smollm2_adapter)
    adapted = replace(ask(max_tokens=16), adapter=smollm2_adapter.id)
    before, one, again, after = engine.run(ask(max_tokens=16), adapted, adapted, ask(max_tokens=16))
    assert one.only == again.only != before.only == after.only
    [rest] = engine.run(replace(adapted, choices=(ChoiceState(0, tuple(one.only[:5])),)))
    assert rest.only == one.only[5:]
    adaptable.unload_adapter(smollm2_adapter.id)
    adaptable.unload_adapter(smollm2_adapter.id)  # no-op
