"""How fast an engine is by itself: no server, no queue; all prompts of an order are handed to it at once."""

import resource
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
from msgspec import Struct

from pileus.bootstrap import load_driver
from pileus.core.ports import Engine, EngineSpec
from pileus.core.records import EngineRequest, SamplingParams
from pileus.models.artefact import load_artefact


class Speed(Struct, frozen=True):
    """Of one artefact on this machine."""

    tokens_per_s: dict[int, float]  # at so many requests at once
    memory_bytes: int  # the process' greatest, weights and cache included


def measure_speed(folder: Path, options: bytes, together: tuple[int, ...], tokens: int) -> Speed:
    """Greedy answers of `tokens` tokens to random prompts as long, with `options` (JSON) of the native engine.
    `folder` is an artefact's, whether it is installed or not yet."""
    driver = load_driver("native")
    generation = load_artefact(folder).generation
    assert generation is not None
    spec = EngineSpec("model", folder, driver.options.model_validate_json(options), generation.context_length)
    engine = cast(Engine, driver.open(spec))
    numbers = count(1)
    random = np.random.default_rng(0)

    def answer(requests: int, length: int) -> float:
        prompts = random.integers(3, generation.vocab_size, (requests, length))
        return _seconds(engine, [tuple(map(int, prompt)) for prompt in prompts], length, numbers)

    try:
        answer(1, 8)  # the first one is slower
        found = {requests: requests * tokens / answer(requests, tokens) for requests in together}
    finally:
        engine.close()
    return Speed(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def _seconds(engine: Engine, prompts: list[tuple[int, ...]], tokens: int, numbers: "count[int]") -> float:
    began = perf_counter()
    for prompt in prompts:
        params = SamplingParams(max_tokens=tokens, seed=1, temperature=0.0)
        engine.submit(EngineRequest(next(numbers), prompt, params))
    left = len(prompts)
    for step in engine.events():
        left -= len(step.finishes)
        if not left:
            break
    return perf_counter() - began
