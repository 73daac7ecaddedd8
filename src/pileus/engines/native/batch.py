"""A step's plan as the arrays that the graph takes."""

from collections.abc import Callable
from typing import NamedTuple

from pileus.engines.native.sample import LEAST_TEMPERATURE
from pileus.engines.native.sequence import Sequence
from pileus.engines.native.tiles import BASE

Plan = list[tuple[Sequence, int]]  # who computes how many tokens
Sampled = list[tuple[Sequence, int]]  # who samples from which row


class Batch(NamedTuple):
    """Sequences one after the other; `begins` and `table_begins` tell where each starts, and end with the total."""

    ids: list[int]
    positions: list[int]
    past: list[int]  # tokens of each sequence whose KV exists
    begins: list[int]
    tables: list[int]  # block numbers
    table_begins: list[int]
    rows: list[int]  # places in `ids` whose logits are wanted; never empty, for the graph's sake
    inverse_temperatures: list[float]  # one per row
    sampled: Sampled
    slots: list[int]  # each token's adapter, `BASE` for none

    @property
    def adapted(self) -> bool:
        """Whether any token has an adapter."""
        return max(self.slots) > BASE

    @property
    def greedy(self) -> bool:
        """Whether of each row only the most likely token is wanted."""
        wishes = (sequence.request.params for sequence, _ in self.sampled)
        return all(params.temperature < LEAST_TEMPERATURE and params.logprobs is None for params in wishes)


def assemble(plan: Plan, block_size: int, slot_of: Callable[[str], int]) -> Batch:
    """Every planned sequence has a table with blocks for its tokens, and its adapter, if any, has a slot."""
    batch = Batch([], [], [], [0], [], [0], [], [], [], [])
    for sequence, tokens in plan:
        start, stop = sequence.computed, sequence.computed + tokens
        assert sequence.table is not None
        batch.ids.extend(sequence.tokens[start:stop])
        batch.positions.extend(range(start, stop))
        batch.past.append(start)
        adapter = sequence.request.adapter
        batch.slots.extend([slot_of(adapter) if adapter else BASE] * tokens)
        batch.begins.append(len(batch.ids))
        batch.tables.extend(sequence.table.blocks[: -(-stop // block_size)])
        batch.table_begins.append(len(batch.tables))
        if stop == len(sequence.tokens):
            batch.sampled.extend((s, len(batch.rows)) for s in (sequence, *sequence.siblings))
            batch.rows.append(len(batch.ids) - 1)
            batch.inverse_temperatures.append(1.0 / max(sequence.request.params.temperature, LEAST_TEMPERATURE))
    if not batch.rows:
        batch.rows.append(len(batch.ids) - 1)
    return batch
