"""One request of a run: what it asks for, and what has become of it."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import takewhile

from pileus.core.records import Lane
from pileus.scheduling.prefixes import ENDS


class Ending(StrEnum):
    """Each request has exactly one."""

    FINISHED = "finished"
    REFUSED = "refused"  # at the door
    DISPLACED = "displaced"  # it left the queue for others
    EXPIRED = "expired"  # it waited too long
    TOO_LONG = "too_long"  # it fits into no replica
    FAILED = "failed"  # it was there at too many deaths
    UNSERVED = "unserved"  # it still waited when the run was over


class Request:
    """Meets `scheduling.lanes.Waiting`. Times are seconds of the run."""

    __slots__ = (
        "answer_tokens",
        "at",
        "block_tokens",
        "cached_tokens",
        "deaths",
        "due",
        "emitted",
        "first_at",
        "lane",
        "links",
        "max_answer_tokens",
        "names",
        "prompt_tokens",
        "tenant",
    )

    choices = 1
    priority = 0

    def __init__(
        self,
        at: float,
        prompt_tokens: int,
        answer_tokens: int,
        *,
        max_answer_tokens: int | None = None,
        tenant: str = "",
        lane: Lane = Lane.ON_DEMAND,
        names: tuple[int, ...] = (),
        block_tokens: int = 1,
        due: float | None = None,
    ) -> None:
        self.at = at
        self.prompt_tokens = prompt_tokens
        self.answer_tokens = answer_tokens  # what it will say
        self.max_answer_tokens = max_answer_tokens or answer_tokens  # what is known of that beforehand
        self.tenant = tenant
        self.lane = lane
        self.due = due
        # The prompt's whole blocks. The last token is in none of them: it is always computed.
        self.names = names[: (prompt_tokens - 1) // block_tokens]
        self.block_tokens = block_tokens
        self.links = links_of(self.names, block_tokens)
        self.emitted = 0  # before its present replica; what was said there is told when that one is lost
        self.deaths = 0  # of replicas that it was on
        self.first_at: float | None = None  # when it said its first token
        self.cached_tokens = 0  # of its prompt, when it first was prefilled


def names_of(salt: int, blocks: Sequence[int]) -> tuple[int, ...]:
    """A name for each block that tells all that comes before it, too; different salts share none."""
    name = salt
    names = []
    for block in blocks:
        name = hash((name, block))
        names.append(name)
    return tuple(names)


def links_of(names: Sequence[int], block_tokens: int) -> tuple[int, ...]:
    """What `prefixes.chain` gives for token ids: a link for each whole chunk, by the block that its end is in."""
    known = len(names) * block_tokens
    ends = enumerate(takewhile(lambda end: end <= known, ENDS), start=1)
    return tuple(hash((names[(end - 1) // block_tokens], chunk)) for chunk, end in ends)
