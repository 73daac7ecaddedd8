"""Texts of our own: a small grammar of English for calibration and for a test of agreement, free of any licence.

A sentence's verb agrees with its subject, however far from it. So a model that lost its grammar is found out: of each
pair, the sentence that agrees should be the likelier one.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from pileus.jobs.handler import JobFailed

_NOUNS: Final = (
    ("teacher", "teachers"), ("doctor", "doctors"), ("child", "children"), ("farmer", "farmers"),
    ("writer", "writers"), ("engineer", "engineers"), ("neighbour", "neighbours"), ("woman", "women"),
    ("sailor", "sailors"), ("student", "students"), ("king", "kings"), ("dog", "dogs"), ("bird", "birds"),
)  # fmt: skip
_PLACES: Final = ("the garden", "the library", "a small town", "the harbour", "the old bridge", "the market", "school")
_VERBS: Final = (
    ("walks to", "walk to"), ("waits near", "wait near"), ("sleeps in", "sleep in"), ("sings in", "sing in"),
    ("lives near", "live near"), ("returns to", "return to"), ("works in", "work in"), ("plays near", "play near"),
)  # fmt: skip
_LINKS: Final = ("who knows", "near", "beside", "who admires", "with", "behind")
_ADJECTIVES: Final = ("old", "young", "quiet", "happy", "clever", "tired", "kind", "famous")
_TIMES: Final = ("Every morning", "In the summer", "On Mondays", "After dinner", "When it rains", "Before sunrise")
_FACTS: Final = (
    "Water boils when it is heated, and freezes when it is cold enough.",
    "A year has twelve months, and a week has seven days.",
    "To bake bread, mix flour, water, salt and yeast, let the dough rise, and bake it until it is brown.",
    "The sum of {a} and {b} is {sum}, and their product is {product}.",
    "If a train travels {a} kilometres each hour, it travels {product} kilometres in {b} hours.",
    "She asked whether the letter had arrived, and he answered that it would come tomorrow.",
)


class Pair(Struct, frozen=True):
    """Two sentences that differ in the verb's number."""

    right: str
    wrong: str


def pairs(count: int, seed: int) -> list[Pair]:
    """The same ones for the same seed."""
    draw = random.Random(f"pairs {seed}")  # noqa: S311
    return [_pair(draw) for _ in range(count)]


def paragraphs(seed: int) -> Iterator[str]:
    """Without an end."""
    draw = random.Random(f"text {seed}")  # noqa: S311
    while True:
        yield " ".join(_fact(draw) if draw.random() < 0.25 else _pair(draw).right for _ in range(draw.randint(3, 8)))


def written(characters: int, seed: int) -> str:
    """Paragraphs of at least so many characters together."""
    found: list[str] = []
    length = 0
    for paragraph in paragraphs(seed):
        found.append(paragraph)
        length += len(paragraph) + 2
        if length >= characters:
            break
    return "\n\n".join(found)


def read(path: str) -> str:
    """A text of the operator's. Raises `JobFailed` where there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobFailed(f"{path} cannot be read as text: {error}", code="bad_text") from error
    if not text.strip():
        raise JobFailed(f"{path} is empty", code="bad_text")
    return text


def _pair(draw: random.Random) -> Pair:
    number = draw.randrange(2)
    subject = draw.choice(_NOUNS)[number]
    if draw.random() < 0.6:
        subject = f"{draw.choice(_ADJECTIVES)} {subject}"
    if draw.random() < 0.5:  # another noun in between
        subject = f"{subject} {draw.choice(_LINKS)} the {draw.choice(_NOUNS)[draw.randrange(2)]}"
    verb, place = draw.choice(_VERBS), draw.choice(_PLACES)
    before = f"{draw.choice(_TIMES)}, the" if draw.random() < 0.5 else "The"
    right, wrong = (f"{before} {subject} {verb[n]} {place}." for n in (number, 1 - number))
    return Pair(right, wrong)


def _fact(draw: random.Random) -> str:
    a, b = draw.randint(2, 30), draw.randint(2, 12)
    return draw.choice(_FACTS).format(a=a, b=b, sum=a + b, product=a * b)
