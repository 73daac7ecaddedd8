"""What is asked of every engine. Prompts are token ids, so that no tokenizer can make the work unequal."""

import random

from msgspec import Struct
from msgspec.structs import replace

# Ordinary words of SmolLM2's vocabulary of 49,152: above its special tokens and bytes, below its reserved tail.
_WORD_IDS = (1_000, 40_000)


class Workload(Struct, frozen=True):
    """`concurrency` requests that are sent at once, each of `shared_tokens + own_tokens` in and `output_tokens` out."""

    name: str
    title: str
    concurrency: int
    own_tokens: int
    output_tokens: int
    shared_tokens: int = 0
    cached: bool = False  # the shared prefix has been served once before, outside of the measurement


class Prompts(Struct, frozen=True):
    """Token ids of one round. `warm_up` is served first, outside of the measurement."""

    warm_up: tuple[int, ...]
    requests: tuple[tuple[int, ...], ...]


WORKLOADS = (
    Workload("single", "1 request, 128 in / 128 out", 1, 128, 128),
    Workload("concurrent-32", "32 concurrent, 256 in / 128 out", 32, 256, 128),
    Workload("concurrent-64", "64 concurrent, 256 in / 128 out", 64, 256, 128),
    Workload(
        "prefix-cached", "32 concurrent, cached shared prefix of 1,024 + 32 in / 32 out", 32, 32, 32, 1024, cached=True
    ),
    Workload("prefix-uncached", "32 concurrent, uncached shared prefix of 1,024 + 32 in / 32 out", 32, 32, 32, 1024),
)


def prompts(workload: Workload, round_number: int) -> Prompts:
    """The same for every engine, and new in every round, so that a prefix cache finds only what the workload says."""
    ids = random.Random(f"{workload.name}/{round_number}")
    shared = _words(ids, workload.shared_tokens)
    requests = tuple(shared + _words(ids, workload.own_tokens) for _ in range(workload.concurrency))
    elsewhere = _words(ids, workload.shared_tokens + workload.own_tokens)
    return Prompts(
        warm_up=(shared + _words(ids, workload.own_tokens)) if workload.cached else elsewhere, requests=requests
    )


def quick(workload: Workload) -> Workload:
    """A short form that shows whether everything runs; its figures mean little."""
    return replace(
        workload,
        title=f"{workload.title} (quick: a quarter of the requests and of the output)",
        concurrency=max(1, workload.concurrency // 4),
        output_tokens=max(8, workload.output_tokens // 4),
    )


def _words(ids: random.Random, count: int) -> tuple[int, ...]:
    return tuple(ids.randrange(*_WORD_IDS) for _ in range(count))
