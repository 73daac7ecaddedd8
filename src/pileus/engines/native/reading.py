"""How likely a model finds what others wrote: one text after the other through the very graph that serves it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pileus.engines.native.graph import BLOCK_SIZE, Graph

Losses = NDArray[np.float64]

_STEP_TOKENS: Final = 256


class Reader:
    """Uses a graph's blocks as its own: no engine may be at work on it then, nor keep prefixes for later. For one
    thread."""

    def __init__(self, graph: Graph, step_tokens: int = _STEP_TOKENS) -> None:
        self._graph = graph
        self._step_tokens = step_tokens

    @property
    def most_tokens(self) -> int:
        """Of one text."""
        return self._graph.kv_blocks * BLOCK_SIZE

    def losses(self, ids: Sequence[int], wanted: Sequence[bool], slot: int | None = None) -> Losses:
        """Nats of each token that is wanted, in order, with the adapter in that slot; the first has nothing before it
        and does not count. Both are of one length, up to `most_tokens`."""
        found = [
            self._chunk(ids, wanted, begin, min(begin + self._step_tokens, len(ids)), slot)
            for begin in range(0, len(ids), self._step_tokens)
        ]
        return np.concatenate(found)

    def _chunk(self, ids: Sequence[int], wanted: Sequence[bool], begin: int, end: int, slot: int | None) -> Losses:
        """Of the tokens that follow those from `begin` to `end`, whose keys and values are computed here."""
        places = [place for place in range(begin, min(end, len(ids) - 1)) if wanted[place + 1]]
        rows = [place - begin for place in places] or [0]  # never empty, for the graph's sake
        tokens, blocks = end - begin, -(-end // BLOCK_SIZE)
        seen = self._graph.run(
            ids[begin:end],
            range(begin, end),
            [begin],
            [0, tokens],
            range(blocks),
            [0, blocks],
            rows,
            [1.0] * len(rows),
            None if slot is None else [slot] * tokens,
        )
        logits = seen.logits[range(len(places)), [ids[place + 1] for place in places]]
        losses: Losses = seen.log_normaliser[: len(places)].astype(np.float64) - logits
        return losses
