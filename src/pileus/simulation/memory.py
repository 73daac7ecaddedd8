"""A replica's memory for keys and values, counted in tokens: who holds how much, and what can be reused.

It keeps the books that `engines.native.blocks` keeps, by whole blocks of a prompt as the trace names them:

    private   a sequence's own tokens, in KV blocks
    pending   a named block that is held, not computed; `owner` is the sequence that computes it, None if that one left
    held      a named block that is computed, and held by one or more
    cached    computed and held by nobody: evicted (least recently used first) when its memory is needed

What a request had computed by itself when it lost its slot is cached too, until it comes back for it. What
finished answers leave behind is not: a trace does not tell which prompt goes on with which answer.
"""

from collections import OrderedDict

from pileus.simulation.request import Request
from pileus.simulation.sequence import Sequence


class Memory:
    """Of `capacity` tokens; private ones in blocks of `block_size`."""

    def __init__(self, capacity: int, block_size: int) -> None:
        self.available = capacity  # tokens that nobody holds, those of cached blocks included
        self._block_size = block_size
        self._holders: dict[int, int] = {}  # by name: how many
        self._owners: dict[int, Sequence | None] = {}  # of pending blocks
        self._cached: OrderedDict[int | Request, int] = OrderedDict()  # tokens
        self._cached_tokens = 0

    def blocks(self, tokens: int) -> int:
        """KV blocks for so many tokens."""
        return -(-tokens // self._block_size)

    def open(self, sequence: Sequence) -> bool:
        """Memory for all that the sequence knows, shared where it can be; false, and nothing happens, where there is
        not enough."""
        names, size = sequence.request.names, sequence.request.block_tokens
        fresh = sum(size for name in names if name not in self._holders)
        named = len(names) * size
        private = self.blocks(sequence.known - named) * self._block_size
        if fresh + private > self.available:
            return False
        for name in names:
            self._hold(name, sequence, size)
        self.available -= private
        parked = self._uncache(sequence.request)
        sequence.parked = 0 if parked is None else named + parked
        self._evict()
        sequence.room = named + private
        sequence.computed = sequence.marked = 0
        if not sequence.started:
            sequence.reused = 0  # what it found before it was preempted, it finds again
        sequence.opened = True
        return True

    def look_ahead(self, sequence: Sequence) -> None:
        """Skip what is computed already, and see how much the sequence can compute now."""
        names, size, owners = sequence.request.names, sequence.request.block_tokens, self._owners
        index, within = divmod(sequence.computed, size)
        if within == 0:
            while index < len(names) and names[index] not in owners:
                index += 1
            self._skip(sequence, index * size)
        whole = len(names) * size
        stop = whole if sequence.computed < whole < sequence.parked else sequence.known
        for place in range(index, len(names)):
            if names[place] in owners and owners[names[place]] is None:
                owners[names[place]] = sequence
            if owners.get(names[place]) is not sequence:
                stop = place * size
                break
        sequence.pending = stop - sequence.computed
        if sequence.pending == 0:
            self._want(names, index, size)

    def passed(self, sequence: Sequence) -> None:
        """It has computed more: others may use the blocks that it has completed."""
        names = sequence.request.names
        whole = min(len(names), sequence.computed // sequence.request.block_tokens)
        for name in names[sequence.marked : whole]:
            if self._owners.get(name) is sequence:
                del self._owners[name]
        sequence.marked = whole

    def extend(self, sequence: Sequence) -> bool:
        """One more KV block for it; false where there is none."""
        if self._block_size > self.available:
            return False
        self.grow(sequence, sequence.room + 1)
        return True

    def grow(self, sequence: Sequence, tokens: int) -> None:
        """Room for so many tokens, which is known to be there."""
        more = self.blocks(tokens - sequence.room) * self._block_size
        sequence.room += more
        self.available -= more
        self._evict()

    def close(self, sequence: Sequence, *, park: bool = False) -> None:
        """Give it all back, the ends of prompts first, so that their beginnings stay longest. With `park`, it will
        come back for what it has computed."""
        names, size = sequence.request.names, sequence.request.block_tokens
        named = len(names) * size
        self.available += sequence.room - named
        sequence.opened = False
        parked = sequence.computed // self._block_size * self._block_size - named
        if park and parked > 0:
            self._cache(sequence.request, parked)
        for name in reversed(names):
            if self._owners.get(name) is sequence:
                self._owners[name] = None
            self._release(name, size)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _skip(self, sequence: Sequence, found: int) -> None:
        """To where others have computed or, beyond the named blocks, to where it was when it was preempted."""
        last = sequence.known - 1
        if found >= len(sequence.request.names) * sequence.request.block_tokens:
            found = max(found, min(sequence.parked, last))
        sequence.reused += found - sequence.computed
        sequence.computed = found

    def _want(self, names: tuple[int, ...], index: int, size: int) -> None:
        """Tell who computes the block at `index` how far others wait for it."""
        owner = self._owners[names[index]]
        assert owner is not None
        while index < len(names) and self._owners.get(names[index]) is owner:
            index += 1
        owner.wanted_at = min(owner.wanted_at or index * size, index * size)

    def _hold(self, name: int, sequence: Sequence, size: int) -> None:
        held = self._holders.get(name, 0)
        self._holders[name] = held + 1
        if held == 0:
            self.available -= size
            if self._uncache(name) is None:
                self._owners[name] = sequence

    def _release(self, name: int, size: int) -> None:
        held = self._holders[name] - 1
        if held:
            self._holders[name] = held
            return
        del self._holders[name]
        self.available += size
        if name in self._owners:
            del self._owners[name]
        else:
            self._cache(name, size)

    def _cache(self, key: int | Request, size: int) -> None:
        self._cached[key] = size
        self._cached_tokens += size

    def _uncache(self, key: int | Request) -> int | None:
        size = self._cached.pop(key, None)
        self._cached_tokens -= size or 0
        return size

    def _evict(self) -> None:
        while self._cached_tokens > self.available:
            self._cached_tokens -= self._cached.popitem(last=False)[1]
