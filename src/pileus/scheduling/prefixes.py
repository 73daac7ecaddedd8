"""Which replica has computed which beginnings of prompts: a bounded memory over chained hashes of token ids.

Only a guess: a replica may have evicted what it computed. A wrong guess costs a prefill, never a wrong answer. So that
it is a good one, a replica is believed to hold no more than its KV blocks do, and to lose what it used last longest
ago.
"""

from collections import OrderedDict
from collections.abc import Container, Sequence
from zlib import crc32

MOST_MATCHES = 8  # that are told for a prompt
_MOST_HOLDERS = 16  # of one chunk; a prefix that so many hold needs no memory of more

# Where the chunks of a prompt end: short ones first, so that a system prompt counts almost to its end, then long ones,
# so that a long prompt costs little. What follows after 64k tokens hardly decides.
CHUNK_TOKENS = 128
ENDS = (*range(CHUNK_TOKENS, 2048, CHUNK_TOKENS), *range(2048, 65_536 + 1, 512))
_SIZES = tuple(end - begin for begin, end in zip((0, *ENDS), ENDS, strict=False))


def chain(prompt: Sequence[int], salt: bytes) -> tuple[int, ...]:
    """A hash for each whole chunk of the prompt, which tells all that comes before it too. The last token is left
    out: it is always computed."""
    link = crc32(salt)
    links = []
    begin = 0
    for end in ENDS:
        if end >= len(prompt):
            break
        link = hash((link, *prompt[begin:end]))
        links.append(link)
        begin = end
    return tuple(links)


def tokens_in(chunks: int) -> int:
    """Of the first so many chunks."""
    return ENDS[chunks - 1] if chunks else 0


def shared_chunks(links: Sequence[int], others: Sequence[int]) -> int:
    """How many chunks two prompts have in common. A link tells all before it, so it is enough to look at a few."""
    low, high = 0, min(len(links), len(others))
    while low < high:
        middle = (low + high + 1) // 2
        if links[middle - 1] == others[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


class _Memory:
    """What one replica is believed to hold."""

    __slots__ = ("kv_tokens", "links", "tokens")

    def __init__(self, kv_tokens: int) -> None:
        self.kv_tokens = kv_tokens  # that fit
        self.tokens = 0
        self.links: OrderedDict[int, int] = OrderedDict()  # and the tokens of each; what was used last is at the end


class PrefixIndex:
    """At most `capacity` chunks over all replicas, an equal part for each."""

    def __init__(self, capacity: int = 1 << 17) -> None:
        self._capacity = capacity
        self._memories: dict[str, _Memory] = {}  # by replica
        self._holders: dict[int, tuple[str, ...]] = {}  # by chunk

    def __len__(self) -> int:
        return sum(len(memory.links) for memory in self._memories.values())

    def open(self, replica: str, kv_tokens: int) -> None:
        """A replica with an empty memory; the others' parts become smaller."""
        self._memories[replica] = _Memory(kv_tokens)
        for other in self._memories:
            self._trim(other)

    def close(self, replica: str) -> None:
        """It is gone, and its memory with it."""
        for link in self._memories.pop(replica).links:
            self._unlist(link, replica)

    def matches(self, links: Sequence[int]) -> dict[str, int]:
        """Those that hold most of the beginning of the prompt, and how many of its tokens each.

        Everybody may hold the first chunk, so this begins at the end: with those that hold the longest known beginning,
        then those that hold half of it, and so on.
        """
        found: dict[str, int] = {}
        deepest = depth = _known(self._holders, links, 0, len(links))
        while depth and len(found) < MOST_MATCHES:
            for replica in self._holders[links[depth - 1]]:
                if replica not in found and len(found) < MOST_MATCHES:
                    found[replica] = tokens_in(_known(self._memories[replica].links, links, depth, deepest))
            deepest, depth = depth, depth // 2
        return found

    def held(self, links: Sequence[int], replica: str) -> int:
        """How many chunks of the prompt that replica holds."""
        return _known(self._memories[replica].links, links, 0, len(links))

    def add(self, links: Sequence[int], replica: str) -> None:
        """The replica is about to compute this prompt: whoever shares its beginning may follow it there."""
        memory, holders = self._memories[replica], self._holders
        own = memory.links
        for place in range(min(len(links), self._share) - 1, -1, -1):  # the beginning, which more share, is last
            link = links[place]
            if link in own:
                own.move_to_end(link)
                continue
            own[link] = _SIZES[place]
            memory.tokens += _SIZES[place]
            others = holders.get(link, ())
            if len(others) < _MOST_HOLDERS:
                holders[link] = (*others, replica)
        self._trim(replica)

    def discard(self, links: Sequence[int], replica: str) -> None:
        """The replica does not hold the ends of prompts that these are."""
        memory = self._memories[replica]
        for link in links:
            if link in memory.links:
                memory.tokens -= memory.links.pop(link)
                self._unlist(link, replica)

    @property
    def _share(self) -> int:
        """Chunks that may be remembered of each replica."""
        return max(1, self._capacity // len(self._memories))

    def _trim(self, replica: str) -> None:
        memory, share = self._memories[replica], self._share
        while len(memory.links) > share or memory.tokens > memory.kv_tokens:
            link, tokens = memory.links.popitem(last=False)
            memory.tokens -= tokens
            self._unlist(link, replica)

    def _unlist(self, link: int, replica: str) -> None:
        holders = self._holders.get(link, ())
        if replica not in holders:
            return
        if len(holders) == 1:
            del self._holders[link]
        else:
            self._holders[link] = tuple(holder for holder in holders if holder != replica)


def _known(memory: Container[int], links: Sequence[int], low: int, high: int) -> int:
    """How many of the first links are in a memory that has no link without those before it: at least `low`, and at most
    `high`."""
    while low < high:
        middle = (low + high + 1) // 2
        if links[middle - 1] in memory:
            low = middle
        else:
            high = middle - 1
    return low
