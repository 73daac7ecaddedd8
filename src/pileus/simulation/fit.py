"""A calibration from a real engine: its steps are measured under loads whose plans are known, and fitted."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from random import Random
from time import perf_counter

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.ports import Engine
from pileus.core.records import Capabilities, EngineRequest, SamplingParams, StepOutput
from pileus.simulation.calibration import Calibration

Floats = NDArray[np.float64]

_COEFFICIENTS = ("step_s", "prefill_token_s", "decode_sequence_s", "kv_read_s", "attention_s", "prefill_s", "change_s")
_LEAST_STEP_S = 1e-6
_LEAST_ERROR = 1e-4  # smaller ones weigh no more
_DECODE_STEPS = 12  # of all sequences of a load together, at least
_CONTEXTS = (32, 96, 256, 1024)
_MOST_PROMPT_TOKENS = 8192  # of a load
_LENGTHS = (16, 48, 80, 112, 144, 176, 208, 240)  # of prompts that come while others decode
_SHORT_ANSWER, _LONG_ANSWER = 3, 64
_TURNS = 2  # through all loads, so that what else happens on the machine does not meet all of one kind
_REWEIGHTINGS = 30


class StepSample(Struct, frozen=True, kw_only=True):
    """One measured step, or the sums of several."""

    seconds: float
    steps: int = 1
    prefill_tokens: int = 0
    decode_sequences: int = 0
    kv_read: int = 0  # tokens of context before the decoding sequences' tokens
    attention: float = 0.0  # prompt tokens in the step, each times the context before it
    prefills: int = 0  # steps with prompt tokens
    changes: int = 0  # steps with another number of tokens than the one before


class Fit(Struct, frozen=True):
    """The coefficients of `Calibration`, none below 0, and how far off the samples they are."""

    coefficients: dict[str, float]
    error: float  # median of the relative error


def fit(samples: Sequence[StepSample]) -> Fit:
    """The least sum of relative errors: short steps count as much as long ones, and one that something else on the
    machine has lengthened does not draw the others along, as it would with squares. It is found by least squares that
    are weighted again and again (E. J. Schlossmacher, 1973). No coefficient is below 0. Raises `ValueError` without
    samples."""
    if not samples:
        raise ValueError("there is nothing to fit")
    rows = np.array(
        [
            (s.steps, s.prefill_tokens, s.decode_sequences, s.kv_read, s.attention, s.prefills, s.changes)
            for s in samples
        ]
    )
    relative = rows / np.array([[sample.seconds] for sample in samples])
    weights = np.ones(len(samples))
    for _ in range(_REWEIGHTINGS):
        found = _least_squares(relative, weights)
        weights = 1 / np.sqrt(np.maximum(_LEAST_ERROR, np.abs(relative @ found - 1)))
    found[0] = max(_LEAST_STEP_S, found[0])
    error = float(np.median(np.abs(relative @ found - 1)))
    return Fit(dict(zip(_COEFFICIENTS, found.tolist(), strict=True)), error)


def _least_squares(rows: Floats, weights: Floats) -> Floats:
    """The coefficients, none below 0, for which the rows come nearest to 1."""
    weighted = rows * weights[:, None]
    norms = np.linalg.norm(weighted, axis=0)
    columns = np.flatnonzero(norms)
    while True:
        found = np.linalg.lstsq(weighted[:, columns] / norms[columns], weights, rcond=None)[0]
        if (found >= 0).all():
            break
        columns = np.delete(columns, found.argmin())
    coefficients = np.zeros(rows.shape[1])
    coefficients[columns] = found / norms[columns]
    return coefficients


def calibrate(
    engine: Engine, step_tokens: int | None, source: str, progress: Callable[[int, int], None]
) -> Calibration:
    """Measure an engine that has nothing to do. `step_tokens` is its budget; None is as many as there are."""
    told = engine.capabilities()
    budget = step_tokens or told.max_context * told.slots
    fitted = fit(list(measure(engine, budget, progress)))
    return Calibration(
        slots=told.slots,
        kv_blocks=told.kv_blocks,
        block_size=told.block_size,
        step_tokens=budget,
        max_context=told.max_context,
        source=f"{source}; half of the steps within {fitted.error:.1%}",
        **fitted.coefficients,
    )


def measure(engine: Engine, step_tokens: int, progress: Callable[[int, int], None]) -> Iterator[StepSample]:
    """The steps of all loads, after one to warm up."""
    driven = _Driven(engine, step_tokens)
    told = engine.capabilities()
    loads = [partial(_together, driven, *load) for load in _loads(told, step_tokens)]
    if _fits(told, told.slots, _LENGTHS[-1] + _SHORT_ANSWER):
        loads += [partial(_beside, driven, width) for width in _widths(told.slots // 2)]
    turns = [loads[0], *loads * _TURNS]
    for number, load in enumerate(turns):
        progress(number, len(turns))
        samples = list(load())
        if number:
            yield from samples
    progress(len(turns), len(turns))


def _loads(told: Capabilities, step_tokens: int) -> Iterator[tuple[int, int, int]]:
    """From one sequence to all slots and from short to long prompts: how many sequences, and the tokens of each's
    prompt and answer. Answers are so long that all sequences decode together for a while."""
    for context, width in product(_CONTEXTS, _widths(told.slots)):
        answer = _DECODE_STEPS + width * context // step_tokens
        if _fits(told, width, context + answer) and width * context <= _MOST_PROMPT_TOKENS:
            yield width, context, answer


def _widths(most: int) -> list[int]:
    return sorted({min(most, 2**power) for power in range(8)} - {0})


def _fits(told: Capabilities, width: int, tokens: int) -> bool:
    """So many sequences of so many tokens, and one block more for each."""
    return tokens <= told.max_context and width * (tokens + told.block_size) <= told.kv_blocks * told.block_size


def _together(driven: "_Driven", width: int, context: int, answer: int) -> Iterator[StepSample]:
    """So many requests at once, to their ends."""
    for _ in range(width):
        driven.submit(context, answer)
    while driven.open:
        yield driven.step()


def _beside(driven: "_Driven", width: int) -> Iterator[StepSample]:
    """Prompts of all lengths that come one after the other while so many sequences decode."""
    for _ in range(width):
        driven.submit(_CONTEXTS[0], _LONG_ANSWER)
    yield driven.step()
    for length in _LENGTHS:
        others = driven.open
        driven.submit(length, _SHORT_ANSWER)
        while driven.open > others:
            yield driven.step()
    while driven.open:
        yield driven.step()


class _Driven:
    """Knows what each step of the engine has in it, from what was submitted and what came out.

    Everything is submitted between two steps, no prompt shares anything with another, and there are slots and blocks
    for all: so a step decodes every sequence that has begun, and the rest of its budget goes to prompts in the order of
    their arrival.
    """

    def __init__(self, engine: Engine, step_tokens: int) -> None:
        self._engine = engine
        self._events = engine.events()
        self._step_tokens = step_tokens
        self._chance = Random(0)  # noqa: S311  # prompts that nobody shares
        self._last_id = 0
        self._lengths: dict[int, int] = {}  # tokens of the prompts that have not begun
        self._done: dict[int, int] = {}  # of these, prefilled
        self._contexts: dict[int, int] = {}  # tokens of those that decode
        self._last_tokens = 0  # of the last step

    @property
    def open(self) -> int:
        """Requests that have not ended."""
        return len(self._lengths) + len(self._contexts)

    def submit(self, context: int, answer: int) -> None:
        self._last_id += 1
        vocabulary = self._engine.capabilities().vocab_size
        prompt = tuple(self._chance.randrange(vocabulary) for _ in range(context))
        self._engine.submit(EngineRequest(self._last_id, prompt, SamplingParams(max_tokens=answer, seed=1)))
        self._lengths[self._last_id] = context
        self._done[self._last_id] = 0

    def step(self) -> StepSample:
        """Wait for one, with something to do."""
        began = perf_counter()
        output = next(self._events)
        sample = self._sample(perf_counter() - began)
        self._take(output)
        return sample

    def _sample(self, seconds: float) -> StepSample:
        left = self._step_tokens - len(self._contexts)
        prefill, attention = 0, 0.0
        for request, length in self._lengths.items():
            done = self._done[request]
            tokens = min(length - done, left - prefill)
            self._done[request] = done + tokens
            attention += tokens * (done + tokens / 2)
            prefill += tokens
        tokens, before = prefill + len(self._contexts), self._last_tokens
        self._last_tokens = tokens
        return StepSample(
            seconds=seconds,
            prefill_tokens=prefill,
            decode_sequences=len(self._contexts),
            kv_read=sum(self._contexts.values()),
            attention=attention,
            prefills=int(prefill > 0),
            changes=int(tokens != before),
        )

    def _take(self, output: StepOutput) -> None:
        for request in self._contexts:
            self._contexts[request] += 1
        for started in output.started:
            self._contexts[started.request] = self._lengths.pop(started.request)
            del self._done[started.request]
        for finish in output.finishes:
            self._contexts.pop(finish.request, None)
            if self._lengths.pop(finish.request, None) is not None:
                raise RuntimeError(f"the engine refused a request: {finish.error}")
