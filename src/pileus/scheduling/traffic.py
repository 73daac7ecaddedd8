"""To which of its deployments a request for a public name goes: by weight, and the same one for the same key.

A key is a point between 0 and 1, and each arm has a stretch of that line. The candidate's comes first: as its weight
grows, who was with it stays with it.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from msgspec import Struct

_POINTS: Final = 1 << 64
_STEPS_TO: Final = 0.5  # where a canary has half of the requests, the next step is the whole


class Arm(Struct, frozen=True):
    """A deployment, and its share of the requests."""

    deployment: str
    weight: float  # more than 0; those of a name need not sum to 1


def choose(name: str, arms: Sequence[Arm], key: str, served: Callable[[str], bool]) -> str | None:
    """The deployment for that key, among those that are served; None where none is. Names are split independently of
    one another."""
    there = [arm for arm in arms if served(arm.deployment)]
    if len(there) < 2:
        return there[0].deployment if there else None
    rest = _point(name, key) * sum(arm.weight for arm in there)
    for arm in there:
        rest -= arm.weight
        if rest < 0:
            return arm.deployment
    return there[-1].deployment


def steps(first: float) -> tuple[float, ...]:
    """The weights that a canary goes through before it is the whole: doubled at each step."""
    weights = [first]
    while weights[-1] * 2 <= _STEPS_TO:
        weights.append(weights[-1] * 2)
    return tuple(weights)


def _point(name: str, key: str) -> float:
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8, person=_short(name)).digest()
    return int.from_bytes(digest, "big") / _POINTS


def _short(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()
