"""Long texts by segments: cut into pieces that the model takes, and answered as one.

A text has as few segments as can be, all about as long as each other. Neighbours share an eighth of what a segment
holds, so that what stands at a seam is also read with what is around it. Each segment is a text of its own to the
engine, with its special tokens, and with a pair's first text in front.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from math import hypot
from operator import mul
from typing import Final

from msgspec import Struct

from pileus.core.records import Frame
from pileus.gateway.vectors import floats, packed

_SHARED_PART: Final = 8  # of what fits into a segment, it shares one part in so many with the next
_LEAST_PART: Final = 8  # at least one part in so many of a segment are the text's own tokens


class Segment(Struct, frozen=True):
    """A piece of a text. `weight` counts the tokens that no segment before it has: of a text's segments together, each
    of its tokens once."""

    ids: list[int]
    weight: int


def room_of(frame: Frame, longest: int) -> int:
    """Tokens of a text that fit into a segment of at most `longest`; not positive where there is no room."""
    return longest - len(frame.before) - len(frame.after)


def least_room(longest: int) -> int:
    """With less, nearly all of each segment would be its frame: computed again and again, beside too little text to
    say anything of."""
    return max(1, longest // _LEAST_PART)


def segment_count(tokens: int, room: int) -> int:
    """How many segments a text becomes, of which so many tokens are its own; `room` is positive."""
    return 1 + max(0, -(-(tokens - room) // (room - room // _SHARED_PART)))


def segment_size(tokens: int, count: int, room: int) -> int:
    """How many of its own tokens each of a text's `count` segments has, those that it shares too."""
    return -(-(tokens + (count - 1) * (room // _SHARED_PART)) // count)


def cut(ids: Sequence[int], frame: Frame, room: int) -> list[Segment]:
    """The segments of a text that comes with its frame."""
    before, after = frame.before, frame.after
    own = ids[len(before) : len(ids) - len(after)]
    count = segment_count(len(own), room)
    size = segment_size(len(own), count, room)
    starts = [at * (len(own) - size) // max(count - 1, 1) for at in range(count)]
    ends = [0, *(start + size for start in starts)]
    weights = [end - earlier for earlier, end in pairwise(ends)]
    return [
        Segment([*before, *own[start : start + size], *after], weight)
        for start, weight in zip(starts, weights, strict=True)
    ]


def merged(
    values: Sequence[bytes], weights: Sequence[Sequence[int]], *, best: bool = False, normalise: bool = False
) -> list[bytes]:
    """One value for each text, of those of its segments: their weighted mean, of length 1 where it is to be
    normalised; or the `best`, whose first number is the largest. `weights` has those of each text's segments."""
    left = iter(values)
    each = [(list(islice(left, len(own))), own) for own in weights]
    return [_best(parts) if best else _mean(parts, own, normalise) for parts, own in each]


def _best(parts: Sequence[bytes]) -> bytes:
    return max(parts, key=lambda part: floats(part)[0])


def _mean(parts: Sequence[bytes], weights: Sequence[int], normalise: bool) -> bytes:
    """What is whole stays as it is, to the bit."""
    if len(parts) == 1:
        return parts[0]
    total = sum(weights)
    mean = [sum(map(mul, column, weights)) / total for column in zip(*map(floats, parts), strict=True)]
    length = hypot(*mean) if normalise else 1.0
    return packed(number / (length or 1.0) for number in mean)
