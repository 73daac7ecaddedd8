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
from typing import Any, cast

import msgspec
import structlog
from msgspec import Struct

from benchmarks.engines import Setting
from benchmarks.processes import Process, StartError
from pileus.bootstrap import load_driver
from pileus.core.ports import AdaptableEngine, AdapterSource, EngineSpec
from pileus.core.records import EngineRequest, Message, SamplingParams
from pileus.models.low_rank import PeftReader
from pileus.models.tokenizer import load_tokenizer


class Order(Struct, frozen=True):
    """Chats to be answered greedily, `output_tokens` each. `adapters`: the id of each one's, if any has one."""

    prompts: list[str]
    output_tokens: int
    adapters: list[str] = []


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


def start(
    setting: Setting, model: Path, options: dict[str, Any], log: Path, adapters: Sequence[AdapterSource] = ()
) -> LoneEngine:
    """`model` is the very folder that the server serves from."""
    told = [msgspec.json.encode(each).decode() for each in (options, adapters)]
    command = [sys.executable, "-m", "benchmarks.lone_engine", str(model), *told]
    return LoneEngine(setting.family.start(command, log, pipes=True))


def main(model: str, options: str, adapters: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the answers go to the other one
    driver = load_driver("native")
    tokenizer = load_tokenizer(Path(model))
    wishes = driver.options.model_validate_json(options)
    engine = cast(AdaptableEngine, driver.open(EngineSpec("model", Path(model), wishes, adapters=PeftReader())))
    for source in msgspec.json.decode(adapters, type=list[AdapterSource]):
        engine.load_adapter(source)
    numbers = count(1)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        ids = [tokenizer.encode_chat([Message("user", prompt)]) for prompt in order.prompts]
        seconds = _generate(engine, list(zip(ids, order.adapters or [""] * len(ids), strict=True)), order, numbers)
        print(msgspec.json.encode(seconds).decode(), flush=True)
    engine.close()


def _generate(
    engine: AdaptableEngine, asked: Sequence[tuple[Sequence[int], str]], order: Order, numbers: "count[int]"
) -> float:
    began = perf_counter()
    for prompt, adapter in asked:
        params = SamplingParams(max_tokens=order.output_tokens, seed=1, temperature=0.0)
        engine.submit(EngineRequest(next(numbers), tuple(prompt), params, adapter=adapter))
    left = len(asked)
    for step in engine.events():
        left -= len(step.finishes)
        if not left:
            return perf_counter() - began
    raise StartError("the engine ended before its work")


if __name__ == "__main__":
    main(*sys.argv[1:])
