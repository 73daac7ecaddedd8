"""Any engine behind an OpenAI-compatible server: ours, vLLM's, llama.cpp's. The same bytes go to all of them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from benchmarks.answers import BadAnswer, Timeline, read_stream
from benchmarks.client import Endpoint, connect, send_each
from benchmarks.processes import Process, StartError
from benchmarks.results import Target


class HttpEngine(Struct):
    """Streams `/v1/completions` over one connection per prompt."""

    target: Target
    process: Process
    endpoint: Endpoint
    model: str

    async def generate(self, prompts: Sequence[tuple[int, ...]], output_tokens: int) -> list[Timeline]:
        requests = [
            self.endpoint.request(
                {
                    "model": self.model,
                    "prompt": prompt,
                    "max_tokens": output_tokens,
                    "temperature": 0,
                    "ignore_eos": True,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                }
            )
            for prompt in prompts
        ]
        connections = await connect(self.endpoint, len(requests))
        try:
            raw = await send_each(connections, requests)
        finally:
            for connection in connections:
                connection.close()
        timelines = [read_stream(answer, output_tokens) for answer in raw]
        for timeline, prompt in zip(timelines, prompts, strict=True):
            if timeline.prompt_tokens != len(prompt):
                raise BadAnswer(f"{len(prompt)} tokens were sent, {timeline.prompt_tokens} arrived")
        return timelines

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for a first real answer."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self.process.check()
                    with suppress(OSError, BadAnswer):
                        await self.generate([(1000, 2000, 3000, 4000)], 2)
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise StartError(f"not ready after {timeout_s:.0f} s: {self.process.log_tail()}") from error
