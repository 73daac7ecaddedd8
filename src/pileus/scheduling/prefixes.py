"""Which replica has computed which beginnings of prompts: a bounded memory over chained hashes of token ids.

Only a guess: a replica may have evicted what it computed. A wrong guess costs a prefill, never a wrong answer.
"""

from collections import OrderedDict
from collections.abc import Sequence
from zlib import crc32

CHUNK_TOKENS = 128
_MOST_HOLDERS = 16  # of one chunk; a prefix that so many hold needs no memory of more
_MOST_CHUNKS = 512  # of one prompt; what follows after 64k tokens hardly decides


def chain(prompt: Sequence[int], salt: bytes) -> tuple[int, ...]:
    """A hash for each whole chunk of the prompt, which tells all that comes before it too. The last token is left
    out: it is always computed."""
    link = crc32(salt)
    links = []
    for end in range(CHUNK_TOKENS, min(len(prompt), _MOST_CHUNKS * CHUNK_TOKENS + 1), CHUNK_TOKENS):
        link = hash((link, *prompt[end - CHUNK_TOKENS : end]))
        links.append(link)
    return tuple(links)


class PrefixIndex:
    """Remembers the chunks that were used last, at most `capacity` of them, over all replicas."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._holders: OrderedDict[int, set[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def matches(self, links: Sequence[int]) -> dict[str, int]:
        """For each replica that holds the beginning of the prompt: how many of its tokens."""
        found: dict[str, int] = {}
        alive: set[str] | None = None
        for depth, link in enumerate(links, start=1):
            holders = self._holders.get(link)
            alive = holders if alive is None or holders is None else alive & holders
            if not holders or not alive:
                break
            for replica in alive:
                found[replica] = depth * CHUNK_TOKENS
        return found

    def add(self, links: Sequence[int], replica: str) -> None:
        """The replica is about to compute this prompt: whoever shares its beginning may follow it there."""
        holders = self._holders
        for link in reversed(links):  # so that the beginning, which more prompts share, is forgotten last
            if link in holders:
                holders.move_to_end(link)
                if len(holders[link]) < _MOST_HOLDERS:
                    holders[link].add(replica)
            else:
                holders[link] = {replica}
        while len(holders) > self._capacity:
            holders.popitem(last=False)

    def forget(self, replica: str) -> None:
        """It is gone, and its memory with it."""
        for link in [link for link, holders in self._holders.items() if replica in holders]:
            self._holders[link].discard(replica)
            if not self._holders[link]:
                del self._holders[link]
