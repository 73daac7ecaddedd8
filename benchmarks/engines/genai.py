"""Raw OpenVINO GenAI: its ContinuousBatchingPipeline in one process, no server and no HTTP in front of it.

The process is a child of the harness only so that it can be paused; requests and results cross a pipe outside of the
time that is measured.
"""

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.answers import BadAnswer, Timeline
from benchmarks.engines import Engine, Setting
from benchmarks.processes import Process
from benchmarks.results import Target

_KV_GIB = 1


class Order(Struct, frozen=True):
    """What the harness asks of the child."""

    prompts: tuple[tuple[int, ...], ...]
    output_tokens: int


class GenAIEngine(Struct):
    """Speaks lines of JSON with the child."""

    target: Target
    process: Process

    async def generate(self, prompts: Sequence[tuple[int, ...]], output_tokens: int) -> list[Timeline]:
        return await asyncio.to_thread(self._ask, Order(tuple(prompts), output_tokens))

    def _ask(self, order: Order) -> list[Timeline]:
        requests, answers = self.process.pipes
        self.process.check()
        requests.write(msgspec.json.encode(order) + b"\n")
        requests.flush()
        line = answers.readline()
        self.process.check()
        timelines = msgspec.json.decode(line, type=list[Timeline])
        if any(timeline.tokens != order.output_tokens for timeline in timelines):
            raise BadAnswer(f"asked for {order.output_tokens} tokens, got {sorted({t.tokens for t in timelines})}")
        return timelines


async def open_genai(setting: Setting, model: Path) -> Engine:
    """`model` is the very folder that our engine serves from."""
    process = setting.family.start(
        [
            *(sys.executable, "-m", "benchmarks.engines.genai_process"),
            *map(str, (model, setting.sequences, setting.step_tokens, _KV_GIB, setting.threads)),
        ],
        setting.logs / "genai.log",
        pipes=True,
    )
    target = Target(
        "genai",
        "OpenVINO GenAI, in-process, no HTTP",
        f"openvino-genai {version('openvino-genai')}",
        "the same OpenVINO IR as Pileus, KV cache u8",
        f"max_num_seqs {setting.sequences}, max_num_batched_tokens {setting.step_tokens}, prefix caching on, "
        f"KV {_KV_GIB} GiB: equal to Pileus",
    )
    engine = GenAIEngine(target, process)
    await engine.generate([(1000, 2000, 3000, 4000)], 2)
    return engine
