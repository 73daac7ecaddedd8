"""Lines of batches: chats of ordinary words, which are asked and answered at known lengths."""

import random
from collections.abc import Iterator, Sequence
from itertools import product

import msgspec
from msgspec import Struct

_FIRST = ("cloud", "rain", "river", "stone", "light", "winter", "garden", "letter")
_SECOND = ("market", "window", "teacher", "morning", "paper", "music", "bridge", "ocean")
_WORDS = tuple(f"{first} {second}" for first, second in product(_FIRST, _SECOND))


class Load(Struct, frozen=True):
    """`groups` of `members` lines each; those of a group begin with the same `shared_words`."""

    title: str
    groups: int
    members: int
    shared_words: int  # pairs of them
    own_words: int
    output_tokens: int

    @property
    def lines(self) -> int:
        return self.groups * self.members


def prompts(load: Load, number: int) -> list[str]:
    """What the lines of a round ask, in random order; new in every round."""
    draw = random.Random(f"{load.title}/{number}")
    found = []
    for _ in range(load.groups):
        shared = _text(draw, load.shared_words)
        found += [f"{shared} {_text(draw, load.own_words)}".strip() for _ in range(load.members)]
    draw.shuffle(found)
    return found


def lines(model: str, asked: Sequence[str], output_tokens: int) -> Iterator[bytes]:
    """As a batch's input has them."""
    for place, prompt in enumerate(asked):
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        line = {"custom_id": str(place), "method": "POST", "url": "/v1/chat/completions", "body": body}
        yield msgspec.json.encode(line) + b"\n"


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=words))
