"""Texts that nobody wrote, as many as wanted, without keeping any: English-like and Chinese, with duplicates among
them.

Words come as often as in real text (Zipf), and are as long as real ones. The same number makes the same document.
"""

import random
from collections.abc import Iterator
from functools import cache
from itertools import accumulate

DUPLICATE_EVERY = 20  # documents
CHINESE_EVERY = 4
_WORDS, _CHARACTERS, _SENTENCES = 30_000, 3_000, 40_000
_STOP_WORDS = ("the", "of", "and", "to", "in", "is", "that", "with", "have", "be")
_STOP_CHARACTERS = "的是在了不和有人这"
_LENGTHS = (2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10)
_LETTERS = "eeeetttaaaooinnsshhrrdlucmfwypvbgk"
_SENTENCE = range(8, 24)  # words, or characters


def document(number: int) -> str:
    """Of about 3 kB. Some are those that were before."""
    if number >= DUPLICATE_EVERY and number % DUPLICATE_EVERY == 0:
        number -= 7
    chosen = random.Random(number)
    is_chinese = number % CHINESE_EVERY == CHINESE_EVERY - 1
    sentences = _chinese_sentences() if is_chinese else _english_sentences()
    drawn = chosen.choices(sentences, k=chosen.randrange(16, 48))
    lines = (drawn[begin : begin + 6] for begin in range(0, len(drawn), 6))
    return "\n".join(("" if is_chinese else " ").join(line) for line in lines)


def documents(bytes_wanted: int, first: int = 0) -> Iterator[bytes]:
    """Of so many bytes together, or a little more."""
    made, number = 0, first
    while made < bytes_wanted:
        content = document(number).encode()
        made += len(content)
        number += 1
        yield content


def edited(text: str, share: float, chosen: random.Random) -> str:
    """With that share of its words written anew."""
    words, _ = _english_words()
    return " ".join(
        chosen.choice(words) + str(chosen.randrange(100)) if chosen.random() < share else word
        for word in text.split(" ")
    )


@cache
def _english_sentences() -> list[str]:
    words, weights = _english_words()
    chosen = random.Random(2)
    drawn = (chosen.choices(words, cum_weights=weights, k=chosen.choice(_SENTENCE)) for _ in range(_SENTENCES))
    return [" ".join(sentence).capitalize() + "." for sentence in drawn]


@cache
def _chinese_sentences() -> list[str]:
    characters = _STOP_CHARACTERS + "".join(chr(0x4E00 + place * 5) for place in range(_CHARACTERS))
    weights = _zipf(len(characters))
    chosen = random.Random(3)
    drawn = (chosen.choices(characters, cum_weights=weights, k=chosen.choice(_SENTENCE)) for _ in range(_SENTENCES))
    return ["".join(sentence[:6]) + "，" + "".join(sentence[6:]) + "。" for sentence in drawn]


@cache
def _english_words() -> tuple[list[str], list[float]]:
    chosen = random.Random(1)
    made = ["".join(chosen.choices(_LETTERS, k=chosen.choice(_LENGTHS))) for _ in range(_WORDS)]
    return [*_STOP_WORDS, *made], _zipf(len(_STOP_WORDS) + _WORDS)


def _zipf(count: int) -> list[float]:
    return list(accumulate(1 / (rank + 4) for rank in range(count)))
