"""KV blocks: who holds which, and which can be shared.

A block keeps the keys and values of `size` tokens. A full block is named by a hash chained over everything before it
and begun with the tenant's salt, so equal names mean equal contexts of one tenant. Named blocks are shared between
sequences, and a name is given _before_ its block is computed: a second request with the same prefix waits for the
first one's work instead of doing it again, and takes it over if the first one leaves.

    private   no name; written by its one holder
    pending   named, held, not computed; `owner` is the holder that computes it, None if that one left
    computed  named; shared while held, evictable (least recently used first) when nobody holds it

The names follow vLLM's automatic prefix caching; sharing pending blocks is ours.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b


class OutOfBlocks(Exception):
    """Every block is held by a sequence."""


@dataclass(slots=True)
class Table:
    """One sequence's blocks in the order of its tokens. Opened, forked and closed by the block manager only."""

    holder: int
    chain: bytes  # name of the last named block, or the salt
    blocks: list[int] = field(default_factory=list)
    named: int = 0  # leading blocks whose names are part of `chain`


class BlockManager:
    """Hands out block numbers 0 to count - 1."""

    def __init__(self, count: int, size: int, *, sharing: bool = True) -> None:
        self.count = count
        self.size = size
        self._sharing = sharing
        self._holders = [0] * count
        self._names: list[bytes | None] = [None] * count
        self._pending = [False] * count
        self._owners: list[int | None] = [None] * count
        self._free = list(range(count - 1, -1, -1))
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._by_name: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """Blocks that can be handed out, evictable ones included."""
        return len(self._free) + len(self._evictable)

    @property
    def cached(self) -> int:
        """Blocks that nobody holds but whose content can be reused."""
        return len(self._evictable)

    def needed(self, tokens: int) -> int:
        """Blocks that hold `tokens` tokens."""
        return -(-tokens // self.size)

    def open(self, holder: int, tokens: Sequence[int], salt: bytes) -> Table:
        """Blocks for all of `tokens`, shared where the prefix is known. Raises `OutOfBlocks` and changes nothing.

        The block of the last token is never shared: it must be computed to get that token's logits.
        """
        table = Table(holder, salt)
        names = self._chain(salt, tokens, (len(tokens) - 1) // self.size) if self._sharing else []
        shared = [self._by_name.get(name) for name in names]
        revived = sum(block in self._evictable for block in shared)
        fresh = self.needed(len(tokens)) - sum(block is not None for block in shared)
        if fresh > self.available - revived:
            raise OutOfBlocks
        for block in shared:
            if block is not None:
                self._hold(block)
        for name, block in zip(names, shared, strict=True):
            table.blocks.append(self._take_pending(name, holder) if block is None else block)
        while len(table.blocks) < self.needed(len(tokens)):
            table.blocks.append(self._take())
        table.named = len(names)
        table.chain = names[-1] if names else salt
        return table

    def reusable(self, table: Table, start: int) -> int:
        """The position up to which tokens from `start` are computed already, by anyone."""
        at = start
        while (
            at % self.size == 0 and at // self.size < table.named and not self._pending[table.blocks[at // self.size]]
        ):
            at += self.size
        return at

    def writable(self, table: Table, start: int, stop: int) -> int:
        """How many tokens from `start` (not beyond `stop`) the table's holder may compute now.

        It claims pending blocks whose owner left. 0 means that another is computing the block at `start`.
        """
        for index in range(start // self.size, min(self.needed(stop), table.named)):
            block = table.blocks[index]
            if self._pending[block] and self._owners[block] is None:
                self._owners[block] = table.holder
            if self._owners[block] != table.holder:
                return max(0, index * self.size - start)
        return stop - start

    def computed(self, table: Table, tokens: Sequence[int], stop: int) -> None:
        """The KV of `tokens[:stop]` is written: blocks that are full become shareable."""
        for index in range(min(table.named, stop // self.size)):
            block = table.blocks[index]
            if self._pending[block] and self._owners[block] == table.holder:
                self._pending[block], self._owners[block] = False, None
        while self._sharing and table.named < stop // self.size:
            block = table.blocks[table.named]
            table.chain = self._link(table.chain, tokens, table.named)
            table.named += 1
            if self._holders[block] == 1 and self._names[block] is None and table.chain not in self._by_name:
                self._name(block, table.chain)

    def extend(self, table: Table, position: int) -> tuple[int, int] | None:
        """Make the block of `position` the holder's own before it is written there.

        Returns (source, destination) where the content must be copied first. Raises `OutOfBlocks`.
        """
        index = position // self.size
        if index == len(table.blocks):
            table.blocks.append(self._take())
            return None
        source = table.blocks[index]
        if self._holders[source] == 1 or self._owners[source] == table.holder:
            return None  # nobody else reads it, or those who do wait for this very write
        destination = self._take()
        self._holders[source] -= 1
        table.blocks[index] = destination
        return source, destination

    def fork(self, table: Table, holder: int) -> Table:
        """A second table over the same blocks; the first of the two to write into the last one gets a copy."""
        for block in table.blocks:
            self._holders[block] += 1
        return Table(holder, table.chain, list(table.blocks), table.named)

    def close(self, table: Table) -> None:
        """Give the blocks back, the last first, so that the beginnings of prompts stay longest."""
        for block in reversed(table.blocks):
            if self._owners[block] == table.holder:
                self._owners[block] = None
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._release(block)
        table.blocks = []
        table.named = 0

    def _release(self, block: int) -> None:
        name = self._names[block]
        if name is not None and not self._pending[block]:
            self._evictable[block] = None
            return
        self._forget(block)
        self._free.append(block)

    def _forget(self, block: int) -> None:
        name = self._names[block]
        if name is not None:
            del self._by_name[name]
        self._names[block], self._pending[block], self._owners[block] = None, False, None

    def _name(self, block: int, name: bytes) -> None:
        self._names[block] = name
        self._by_name[name] = block

    def _hold(self, block: int) -> None:
        self._evictable.pop(block, None)
        self._holders[block] += 1

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        elif self._evictable:
            block, _ = self._evictable.popitem(last=False)
            self._forget(block)
        else:
            raise OutOfBlocks
        self._holders[block] = 1
        return block

    def _take_pending(self, name: bytes, holder: int) -> int:
        block = self._take()
        self._name(block, name)
        self._pending[block], self._owners[block] = True, holder
        return block

    def _chain(self, salt: bytes, tokens: Sequence[int], blocks: int) -> list[bytes]:
        names: list[bytes] = []
        chain = salt
        for index in range(blocks):
            chain = self._link(chain, tokens, index)
            names.append(chain)
        return names

    def _link(self, chain: bytes, tokens: Sequence[int], index: int) -> bytes:
        part = array("i", tokens[index * self.size : (index + 1) * self.size])
        return blake2b(part.tobytes(), key=chain, digest_size=16).digest()
