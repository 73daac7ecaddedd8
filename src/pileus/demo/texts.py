"""Texts that are made here, so that nothing needs a licence or a download: a small world with weather, markets and
travellers, told in plain English and a little Chinese. Everything is a function of a seed."""

import random
from collections.abc import Iterator

from msgspec import Struct

_STORIES = 3  # of a document
_NAMES = ("Ada", "Bela", "Cora", "Dario", "Edda", "Falk", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Lenz")
_PLACES = ("the harbour", "the old mill", "the north gate", "the market", "the quarry", "the chapel", "the ferry")
_GOODS = ("apples", "lamps", "ropes", "candles", "pears", "kettles", "boots", "books", "carpets", "flutes")
_WEATHER = ("rain", "snow", "fog", "sunshine", "a storm", "a light breeze", "hail", "heat")
_WET = frozenset({"rain", "snow", "fog", "a storm", "hail"})
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_CHINESE_PLACES = ("码头", "磨坊", "北门", "集市", "采石场", "渡口")
_CHINESE_GOODS = ("苹果", "灯笼", "绳子", "蜡烛", "水壶", "靴子", "书")
_GOOD = ("works well", "arrived early", "feels sturdy", "is a joy to use", "was worth every coin", "looks splendid")
_BAD = ("broke at once", "came far too late", "feels cheap", "is a pain to use", "was a waste of coins", "looks worn")
_SOMEHOW = ("The {thing} from {place} {how}.", "My {thing}, bought on {day}, {how}.", "{name} says the {thing} {how}.")
_VERBS = {
    "sells": "vendas",
    "buys": "achas",
    "carries": "portas",
    "mends": "fixas",
    "hides": "celas",
    "finds": "trovas",
}
_COLOURS = {"red": "rug", "green": "verd", "blue": "blau", "white": "blan", "black": "nig", "grey": "griz"}
_THINGS = {
    "apples": "pom",
    "lamps": "lum",
    "ropes": "kord",
    "candles": "kand",
    "kettles": "bol",
    "boots": "bot",
    "books": "libr",
    "flutes": "flut",
}


class Labelled(Struct, frozen=True):
    """A text and what it is."""

    text: str
    label: str


class Pair(Struct, frozen=True):
    """A sentence and its translation into the toy language."""

    source: str
    target: str


def documents(count: int, seed: int) -> Iterator[str]:
    """A few stories each; what a story says stays true in it, so a model that reads on can foresee."""
    draw = random.Random(seed)  # noqa: S311  # texts, not secrets
    for _ in range(count):
        yield "\n\n".join(_chinese(draw) if draw.random() < 0.1 else _story(draw) for _ in range(_STORIES))


def reviews(count: int, seed: int) -> list[Labelled]:
    """Short reviews, half of each kind: a classifier's task."""
    draw = random.Random(seed)  # noqa: S311  # texts, not secrets
    found = []
    for number in range(count):
        is_good = number % 2 == 0
        text = draw.choice(_SOMEHOW).format(
            thing=draw.choice(_GOODS)[:-1],
            place=draw.choice(_PLACES),
            day=draw.choice(_DAYS),
            name=draw.choice(_NAMES),
            how=draw.choice(_GOOD if is_good else _BAD),
        )
        found.append(Labelled(text, "good" if is_good else "bad"))
    draw.shuffle(found)
    return found


def translations(count: int, seed: int) -> list[Pair]:
    """Different sentences with their translations: the toy language puts the verb last, marks who acts and what is
    acted on by endings, and counts behind the noun."""
    draw = random.Random(seed)  # noqa: S311  # texts, not secrets
    found: dict[str, Pair] = {}
    while len(found) < count:
        name, number, verb = draw.choice(_NAMES), draw.choice(_NUMBERS), draw.choice(tuple(_VERBS))
        colour, thing = draw.choice(tuple(_COLOURS)), draw.choice(tuple(_THINGS))
        source = f"{name} {verb} {number} {colour} {thing}"
        target = f"{name.lower()}ga {_THINGS[thing]}o {_COLOURS[colour]} {_digits(number)} {_VERBS[verb]}"
        found.setdefault(source, Pair(source, target))
    return list(found.values())


def _digits(number: str) -> str:
    return str(_NUMBERS.index(number) + 2)


def _story(draw: random.Random) -> str:
    name, other = draw.sample(_NAMES, 2)
    goods, more = draw.sample(_GOODS, 2)
    place, day, weather = draw.choice(_PLACES), draw.choice(_DAYS), draw.choice(_WEATHER)
    count = draw.choice(_NUMBERS)
    ground = "The road was wet" if weather in _WET else "The road was dry"
    sentences = [
        f"On {day} there was {weather} over {place}.",
        f"{ground}, and {name} came with {count} {goods}.",
        f"{other} had {more} to sell, but nobody asked for {more}.",
        f"{name} gave {other} the {count} {goods} and took the {more}.",
        f"So {other} went home with {count} {goods}, and {name} stayed at {place} until the end of {day}.",
    ]
    return " ".join(sentences[: draw.randint(3, 5)])


def _chinese(draw: random.Random) -> str:
    place, goods, more = draw.choice(_CHINESE_PLACES), *draw.sample(_CHINESE_GOODS, 2)
    count = draw.randint(2, 12)
    morning = f"早上有人在{place}卖{goods}。他带来了{count}个{goods}，想换一些{more}。"
    return f"{morning}到了晚上，{goods}都换成了{more}，大家高兴地离开了{place}。"
