"""Our engine by itself: no server, no queue, no journal; all prompts of an order are handed to it at once.

It is a process of its own, a child of the harness, so that it can be paused. Orders come in as lines of JSON, and the
seconds that each took go out.
"""

import asyncio
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.engines import Setting
from benchmarks.processes import Process, StartError
from pileus.bootstrap import load_driver
from pileus.core.ports import Engine, EngineSpec
from pileus.core.records import EngineRequest, Message, SamplingParams
from pileus.models.tokenizer import load_tokenizer


class Order(Struct, frozen=True):
    """Chats to be answered greedily, `output_tokens` each."""

    prompts: list[str]
    output_tokens: int


class LoneEngine(Struct, frozen=True):
    """The harness' end."""

    process: Process

    async def seconds(self, order: Order) -> float:
        """How long it takes for all of them. Raises `StartError`."""
        return await asyncio.to_thread(self._ask, order)

    def _ask(self, order: Order) -> float:
        orders, answers = self.process.pipes
        self.process.check()
        orders.write(msgspec.json.encode(order) + b"\n")
        orders.flush()
        line = answers.readline()
        self.process.check()
        return msgspec.json.decode(line, type=float)


def start(setting: Setting, model: Path, options: dict[str, Any], log: Path) -> LoneEngine:
    """`model` is the very folder that the server serves from."""
    command = [sys.executable, "-m", "benchmarks.lone_engine", str(model), msgspec.json.encode(options).decode()]
    return LoneEngine(setting.family.start(command, log, pipes=True))


def main(model: str, options: str) -> None:
    driver = load_driver("native")
    tokenizer = load_tokenizer(Path(model))
    engine = driver.open(EngineSpec("model", Path(model), driver.options.model_validate_json(options)))
    numbers = count(1)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        ids = [tokenizer.encode_chat([Message("user", prompt)]) for prompt in order.prompts]
        seconds = _generate(engine, ids, order.output_tokens, numbers)
        print(msgspec.json.encode(seconds).decode(), flush=True)
    engine.close()


def _generate(engine: Engine, prompts: Sequence[Sequence[int]], output_tokens: int, numbers: "count[int]") -> float:
    began = perf_counter()
    for prompt in prompts:
        params = SamplingParams(max_tokens=output_tokens, seed=1, temperature=0.0)
        engine.submit(EngineRequest(next(numbers), tuple(prompt), params))
    left = len(prompts)
    for step in engine.events():
        left -= len(step.finishes)
        if not left:
            return perf_counter() - began
    raise StartError("the engine ended before its work")


if __name__ == "__main__":
    main(*sys.argv[1:])
