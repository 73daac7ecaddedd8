"""Documents that tests are made of: all different, all of good quality."""

import random

_ENGLISH = (
    "the river runs through a wide valley and its water is cold even in summer when all snow has gone from "
    "hills around people who live there have fields of wheat with long walls built by fathers to keep sheep out "
    "that nobody counts any more because each knows his own flock well while traders come each spring down old roads"
)
ENGLISH = _ENGLISH.split()
CHINESE = "的是在了不和有人这山水田间老房子里住着一位画家他每天早起出门看云听鸟写下许多字后来城里客买走作也带去故事"
GERMAN = (
    "Der Fluss fließt durch ein breites Tal, und sein Wasser ist auch im Sommer kalt, wenn der Schnee auf den Bergen "
    "längst geschmolzen ist. Wer dort lebt, hat Felder mit Weizen und lange Mauern, die schon die Väter gebaut haben, "
    "damit die Schafe nicht fortlaufen; gezählt werden sie nicht mehr, weil jeder seine Herde kennt. Im Mai kommen "
    "Händler über die alte Straße und kaufen Wolle. (In short: the wool of an old road.)"
)


def english(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(f"en{seed}").choices(ENGLISH, k=words)) + "."


def chinese(seed: int, characters: int = 150) -> str:
    return "".join(random.Random(f"zh{seed}").choices(CHINESE, k=characters)) + "。"


def like(text: str, changed: float, seed: int = 0) -> str:
    """The same document, with that share of its words written anew."""
    chosen = random.Random(seed)
    return " ".join(f"w{chosen.randrange(10**6)}" if chosen.random() < changed else word for word in text.split())
