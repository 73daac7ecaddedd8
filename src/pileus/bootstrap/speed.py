"""How fast an engine is by itself: no server, no queue; all prompts of an order are handed to it at once."""

from itertools import count
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
from msgspec import Struct
from pydantic import ValidationError

from pileus.bootstrap import load_driver
from pileus.bootstrap.memory import peak_bytes
from pileus.core.errors import OperatorError
from pileus.core.ports import Engine, EngineSpec
from pileus.core.records import EngineRequest, SamplingParams
from pileus.models.artefact import MANIFEST, load_artefact
from pileus.models.progress import Progress, silent


class Speed(Struct, frozen=True):
    """Of one artefact on this machine."""

    tokens_per_s: dict[int, float]  # at so many requests at once
    memory_bytes: int  # the process' greatest, weights and cache included


def measure_speed(
    folder: Path, options: bytes, together: tuple[int, ...], tokens: int, progress: Progress = silent
) -> Speed:
    """Greedy answers of `tokens` tokens to random prompts as long, with `options` (JSON) of the native engine.
    `folder` is an artefact's, whether it is installed or not yet. Raises `OperatorError` for what it cannot measure."""
    driver = load_driver("native")
    if not (folder / MANIFEST).is_file():
        raise OperatorError(f"{folder} holds no model that Pileus has made ready: import it first")
    generation = load_artefact(folder).generation
    if generation is None:
        raise OperatorError(f"{folder} generates no text")
    if 2 * tokens > generation.context_length:
        raise OperatorError(f"its context has {generation.context_length} tokens: a prompt and an answer do not fit")
    try:
        chosen = driver.options.model_validate_json(options)
    except ValidationError as error:
        raise OperatorError(f"the options are not the native engine's: {error.errors()[0]['msg']}") from None
    progress("loading", 0, 0)
    engine = cast(Engine, driver.open(EngineSpec("model", folder, chosen, generation.context_length)))
    numbers = count(1)
    random = np.random.default_rng(0)

    def answer(requests: int, length: int) -> float:
        progress(f"{requests} at once", 0, 0)
        prompts = random.integers(3, generation.vocab_size, (requests, length))
        return _seconds(engine, [tuple(map(int, prompt)) for prompt in prompts], length, numbers)

    try:
        answer(1, 8)  # the first one is slower
        found = {requests: requests * tokens / answer(requests, tokens) for requests in together}
    finally:
        engine.close()
    return Speed(found, peak_bytes())


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
