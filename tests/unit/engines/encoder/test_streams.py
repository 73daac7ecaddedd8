"""Steps side by side: how many there are of so many texts, and that they do not wait for one another."""

import threading
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from made_encoders import write_bert
from pileus.config.settings import Models
from pileus.core.ports import EngineSpec
from pileus.core.records import EncodeOutput, EncodeRequest, FinishReason, StepOutput
from pileus.engines.encoder.engine import EncoderEngine
from pileus.engines.encoder.graph import Graph
from pileus.engines.encoder.options import EncoderOptions
from pileus.models.catalogue import Catalogue

VECTOR = EncodeOutput(normalise=True)
PATIENCE_S = 20.0

Open = Callable[..., EncoderEngine]


def request(number: int, lengths: Sequence[int]) -> EncodeRequest:
    return EncodeRequest(number, tuple(array("I", [2, *[5] * (length - 2), 3]).tobytes() for length in lengths), VECTOR)


def until_ended(engine: EncoderEngine, count: int) -> list[StepOutput]:
    outputs = []
    for output in engine.events():
        outputs.append(output)
        count -= len(output.finishes)
        if not count:
            break
    return outputs


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streams")
    return Catalogue(root / "models", Models()).import_folder(write_bert(root / "bert"), "tiny").path


@pytest.fixture
def open_engine(bert: Path) -> Open:
    return lambda **options: EncoderEngine(EngineSpec("tiny", bert, EncoderOptions(**{"threads": 2} | options)))


class HeldGraph:
    """Steps wait before they run, until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self._let_go = threading.Semaphore(0)
        run = Graph.run

        def held(graph: Graph, *arguments: Any) -> Any:
            self.begun.release()
            assert self._let_go.acquire(timeout=PATIENCE_S)
            return run(graph, *arguments)

        monkeypatch.setattr(Graph, "run", held)

    def wait_for(self, steps: int) -> None:
        for _ in range(steps):
            assert self.begun.acquire(timeout=PATIENCE_S), "fewer steps run side by side"

    def let_go(self, steps: int) -> None:
        self._let_go.release(steps)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldGraph:
    return HeldGraph(monkeypatch)


def came_to(figure: Callable[[], int], wanted: int) -> bool:
    deadline = monotonic() + PATIENCE_S
    while figure() != wanted and monotonic() < deadline:
        sleep(0.01)
    return figure() == wanted


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_as_many_steps_run_side_by_side_as_there_are_streams(open_engine: Open, held: HeldGraph) -> None:
    engine = open_engine(streams=2, step_tokens=64)
    engine.submit(request(1, [16] * 12))
    outputs: list[StepOutput] = []
    thread = in_thread(lambda: outputs.extend(until_ended(engine, 1)))
    held.wait_for(2)
    assert came_to(lambda: engine.stats().planned_tokens, 128)  # told when both are under way, not before they run
    held.let_go(3)
    thread.join(PATIENCE_S)
    assert [len(output.encoded) for output in outputs] == [1, 1, 1]
    assert engine.stats().steps == 3
    assert engine.stats().planned_tokens == 0


def test_a_request_of_few_texts_is_shared_out_over_the_streams(open_engine: Open) -> None:
    steps = {}
    for streams in (1, 2):
        engine = open_engine(streams=streams)
        engine.submit(request(1, [20] * 16))
        until_ended(engine, 1)
        steps[streams] = engine.stats().steps
    assert steps == {1: 1, 2: 2}


def test_a_lone_short_text_is_one_step(open_engine: Open) -> None:
    engine = open_engine()
    engine.submit(request(1, [8, 8, 8]))
    until_ended(engine, 1)
    assert engine.stats().steps == 1


def test_a_free_stream_is_for_those_who_want_another_layer_too(open_engine: Open, held: HeldGraph) -> None:
    engine = open_engine(streams=2)
    engine.submit(request(1, [8]))
    thread = in_thread(lambda: until_ended(engine, 2))
    held.wait_for(1)
    engine.submit(EncodeRequest(2, request(2, [8]).texts, EncodeOutput(layer=0)))
    held.wait_for(1)
    held.let_go(2)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_texts_of_several_requests_fill_steps_together(open_engine: Open) -> None:
    """What was sent as it fits a client's requests is computed as it fits the machine: about as many steps as tokens
    need, whatever the requests are cut to."""
    lengths = [4 + number % 20 for number in range(512)]
    for size in (8, 64, 256):
        engine = open_engine(max_requests=64)
        parts = [lengths[at : at + size] for at in range(0, len(lengths), size)]
        for number, part in enumerate(parts):
            engine.submit(request(number, part))
        until_ended(engine, len(parts))
        stats = engine.stats()
        assert stats.step_tokens == sum(lengths)
        assert stats.steps <= 1.5 * sum(lengths) / EncoderOptions().step_tokens


def test_a_request_that_is_cancelled_in_its_step_gets_nothing_more(open_engine: Open, held: HeldGraph) -> None:
    engine = open_engine(streams=2, step_tokens=64)
    engine.submit(request(1, [16] * 4))
    engine.submit(request(2, [16] * 4))
    outputs: list[StepOutput] = []
    thread = in_thread(lambda: outputs.extend(until_ended(engine, 2)))
    held.wait_for(2)
    engine.cancel(1)
    held.let_go(4)
    thread.join(PATIENCE_S)
    assert {encoded.request for output in outputs for encoded in output.encoded} == {2}
    finishes = {finish.request: finish.reason for output in outputs for finish in output.finishes}
    assert finishes == {1: FinishReason.CANCELLED, 2: FinishReason.STOP}


def test_texts_count_against_the_credit_until_they_are_answered(open_engine: Open, held: HeldGraph) -> None:
    engine = open_engine(streams=2, step_tokens=64, queue_tokens=1024)
    engine.submit(request(1, [16] * 4 + [8] * 4))
    outputs: list[StepOutput] = []
    thread = in_thread(lambda: outputs.extend(until_ended(engine, 1)))
    held.wait_for(2)
    assert engine.stats().kv_blocks_used == 3
    held.let_go(2)
    thread.join(PATIENCE_S)
    assert outputs[-1].credit.kv_blocks == engine.capabilities().kv_blocks
    assert engine.stats().kv_blocks_used == 0


def test_a_step_that_fails_ends_the_engine(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine()

    def fail(*_: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(Graph, "run", fail)
    engine.submit(request(1, [8]))
    with pytest.raises(RuntimeError, match="no memory"):
        until_ended(engine, 1)
