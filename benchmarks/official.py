"""A surge of OpenAI's own client, as it is: how it fares with nothing but its own retries."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import openai
from msgspec import Struct
from openai import AsyncOpenAI


class Call(Struct, frozen=True):
    """One call as its caller saw it. `attempts` are the requests that the client sent for it."""

    answered: bool
    attempts: int
    took_s: float


async def call_openly(
    base_url: str, key: str, model: str, prompt: str, tokens: int, at_s: Sequence[float]
) -> list[Call]:
    """One call at each of these times, in seconds from now, with the client's defaults."""
    async with AsyncOpenAI(base_url=base_url, api_key=key) as client:
        begun_s = perf_counter()

        async def call(when_s: float) -> Call:
            await asyncio.sleep(begun_s + when_s - perf_counter())
            try:
                raw = await client.completions.with_raw_response.create(model=model, prompt=prompt, max_tokens=tokens)
            except openai.APIStatusError:
                return Call(False, 1 + client.max_retries, perf_counter() - begun_s - when_s)
            usage = raw.parse().usage
            whole = usage is not None and usage.completion_tokens == tokens
            return Call(whole, 1 + raw.retries_taken, perf_counter() - begun_s - when_s)

        return await asyncio.gather(*map(call, at_s))
