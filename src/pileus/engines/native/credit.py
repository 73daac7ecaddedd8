"""What the engine can take on, told after each step."""

from collections.abc import Iterable

from pileus.core.records import Credit, Lane
from pileus.engines.native.blocks import BlockManager
from pileus.engines.native.sequence import Sequence


def credit_of(slots: int, blocks: BlockManager, running: list[Sequence], waiting: list[Sequence], seen: int) -> Credit:
    """Slots and blocks that neither those that run nor those that wait here will need to go on."""
    everyone = running + waiting
    batch = [sequence for sequence in everyone if sequence.lane is Lane.BATCH]
    return Credit(
        slots=slots - _slots(everyone),
        kv_blocks=blocks.available - _wanted(waiting, blocks),
        seen=seen,
        batch_slots=_slots(batch),
        batch_kv_blocks=_held_by(batch, running) + _wanted((s for s in batch if s.table is None), blocks),
    )


def _slots(sequences: list[Sequence]) -> int:
    return sum(1 + len(sequence.siblings) for sequence in sequences)


def _wanted(sequences: Iterable[Sequence], blocks: BlockManager) -> int:
    """Blocks that they will need to begin."""
    return sum(blocks.needed(len(sequence.tokens)) for sequence in sequences)


def _held_by(batch: list[Sequence], running: list[Sequence]) -> int:
    """Blocks that nobody but batch work holds."""
    if not batch:
        return 0
    held = {block for s in batch if s.table is not None for block in s.table.blocks}
    urgent = (s.table for s in running if s.lane is not Lane.BATCH)
    return len(held.difference(*(table.blocks for table in urgent if table is not None)))
