"""Mooncake's conversations, scaled to what fake replicas on a small machine can serve, as requests to be sent.

    a tenth of the conversations     another tenth in each round
    80 times as fast                 so that the pauses between the turns of a conversation are as much shorter
    an eighth of the length          blocks of 512 tokens become blocks of 64: a byte of text each, for the fake engine

The trace tells how prompts share their blocks, not what is in them. So each block's text is made up from its name.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase
from zlib import crc32

from msgspec import Struct

from pileus.simulation.traces import MOONCAKE_BLOCK_TOKENS, TraceRequest, load

PARTS = 10  # of the conversations, one for each round
FASTER = 80.0
SHORTER = 8
_BLOCK = MOONCAKE_BLOCK_TOKENS // SHORTER
_LONGEST = 7_500  # prompts of more tokens would not fit into the fake engine's context with their answers


class Turn(Struct, frozen=True):
    """One request of a conversation: when it comes, in seconds from the beginning, its text and its answer's length."""

    at_s: float
    prompt: str
    answer_tokens: int


def conversations(trace: Path, number: int, duration_s: float, *, shared: bool = True) -> list[Turn]:
    """What comes in a round. With `shared` false the same arrivals and lengths, but no two prompts begin alike."""
    requests = load(trace)
    begin = requests[0].at
    part = [
        one
        for one in requests
        if one.at - begin < FASTER * duration_s
        and one.prompt_tokens <= SHORTER * _LONGEST
        and _conversation(one) % PARTS == number % PARTS
    ]
    return list(_turns(part, begin, str(number), shared=shared))


def _turns(requests: Sequence[TraceRequest], begin: float, salt: str, *, shared: bool) -> Iterator[Turn]:
    for place, one in enumerate(requests):
        tokens = max(1, one.prompt_tokens // SHORTER)
        whole = (one.prompt_tokens - 1) // MOONCAKE_BLOCK_TOKENS  # the last block is this request's own
        names = [f"{salt}/{block}" if shared else f"{salt}/{place}/{block}" for block in one.blocks[:whole]]
        text = "".join(map(_text, (*names, f"{salt} {place}")))
        yield Turn(
            (one.at - begin) / FASTER,
            (text + _text(f"{salt} {place} rest") * (1 + max(0, tokens - len(text)) // _BLOCK))[:tokens],
            max(1, one.answer_tokens // SHORTER),
        )


def _text(name: str) -> str:
    return "".join(random.Random(name).choices(ascii_lowercase, k=_BLOCK))


def _conversation(request: TraceRequest) -> int:
    """Prompts whose second block is the same are of one conversation; the first block is everybody's."""
    return crc32(str(request.blocks[:2][-1:]).encode())
