"""Which texts of which requests an encoder takes in its next step.

A step is one pass over texts side by side, each filled up to the longest: so texts of about the same length go
together, and what is filled up stays a small part. Urgent requests come before batch work; among equals the request
that was served least sets the length and takes its fair part of the rows, and the others fill what is left. So a
request of ten thousand texts does not hold up one of a single text, and is not held up for ever by many of those.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from pileus.core.records import Lane

_LEAST_SPARE = 64  # tokens that a step may fill up whatever its size: a pass by itself costs more
_SPARE = 1 / 16  # of a step's tokens


class TextQueue:
    """The texts of one request that were not encoded yet. `served` is in tokens, and begins with what those beside it
    had at least, so that nobody saves up a right."""

    __slots__ = ("_left", "lane", "served", "tokens")

    def __init__(self, lengths: Sequence[int], lane: Lane, served: int = 0) -> None:
        self.lane = lane
        self.served = served
        self.tokens = sum(lengths)  # of the texts that are left
        self._left = sorted((length, place) for place, length in enumerate(lengths))

    def __len__(self) -> int:
        return len(self._left)

    @property
    def longest(self) -> int:
        return self._left[-1][0]

    def below(self, length: int) -> int:
        """How many of its texts have at most that length."""
        return bisect_right(self._left, length, key=itemgetter(0))

    def length_at(self, index: int) -> int:
        """Of the texts by their lengths."""
        return self._left[index][0]

    def take(self, index: int) -> int:
        """The place of the text at that index, which is left no more."""
        length, place = self._left.pop(index)
        self.served += length
        self.tokens -= length
        return place


def plan_texts(queues: Sequence[TextQueue], step_tokens: int) -> list[tuple[TextQueue, int]]:
    """Pairs of a request and the place of one of its texts; at least one where any is left. Their number times the
    longest length is at most `step_tokens`, unless one text alone is longer."""
    waiting = sorted((queue for queue in queues if queue), key=_turn)
    if not waiting:
        return []
    longest = waiting[0].longest
    rows = max(1, step_tokens // longest)
    spare = max(_LEAST_SPARE, step_tokens * _SPARE)
    plan: list[tuple[TextQueue, int]] = []
    for most in (-(-rows // len(waiting)), rows):  # first its fair part for each, then what is left
        for queue in waiting:
            taken = 0
            while taken < most and len(plan) < rows and (index := queue.below(longest)):
                filled = longest - queue.length_at(index - 1)
                if filled > spare:
                    break
                spare -= filled
                plan.append((queue, queue.take(index - 1)))
                taken += 1
    return plan


def _turn(queue: TextQueue) -> tuple[bool, int]:
    return queue.lane is Lane.BATCH, queue.served
