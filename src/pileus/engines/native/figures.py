"""What the engine has done and what it holds, for whoever asks from another thread."""

from msgspec.structs import replace

from pileus.core.records import EngineStats
from pileus.engines.native.blocks import BlockManager
from pileus.engines.native.sequence import Sequence


class Figures:
    """`told` is of one moment: no sequence is gone before its tokens are counted. The engine's thread tells."""

    def __init__(self, slots: int, blocks: BlockManager) -> None:
        self._blocks = blocks
        self._counters = EngineStats(slots=slots, kv_blocks=blocks.count)
        self.told = self._counters

    def count(self, **amounts: float) -> None:
        """Add to counters; they are told with what holds by then."""
        counters = self._counters
        self._counters = replace(
            counters, **{name: getattr(counters, name) + amount for name, amount in amounts.items()}
        )

    def tell(
        self, running: list[Sequence], waiting: list[Sequence], planned_tokens: int = 0, *, loading: int = 0
    ) -> None:
        """As a step begins, with what it plans, and as it ends."""
        self.told = replace(
            self._counters,
            planned_tokens=planned_tokens,
            running=len(running),
            waiting=sum(1 + len(sequence.siblings) for sequence in waiting),
            kv_blocks_used=self._blocks.count - self._blocks.available,
            kv_blocks_cached=self._blocks.cached,
            loading=loading,
        )
