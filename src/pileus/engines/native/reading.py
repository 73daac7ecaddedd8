"""How likely a model finds what others wrote: one text after the other through the very graph that serves it, with an
adapter or without."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pileus.engines.native.adapted import Bank, rank_of_bank
from pileus.engines.native.graph import BLOCK_SIZE, Graph
from pileus.engines.native.options import NativeOptions

Losses = NDArray[np.float64]

_SLOT: Final = 0  # the only one


class Reader:
    """A base and at most one adapter. For one thread."""

    def __init__(self, folder: Path, options: NativeOptions) -> None:
        """Raises `ModelRefused` for a model that the engine cannot run."""
        self._graph = Graph(folder, options)
        self._step_tokens = options.step_tokens
        self._bank: Bank | None = None

    @property
    def most_tokens(self) -> int:
        """Of one text."""
        return self._graph.kv_blocks * BLOCK_SIZE

    def adapt(self, weights: Any) -> None:
        """Read with this adapter from now on, and with no earlier one; `weights` as an `AdapterReader` gives them."""
        places, rank = frozenset(weights.changes), rank_of_bank(weights.rank)
        if self._bank is None or rank > self._bank.rank or not places <= self._bank.places.keys():
            self._bank = self._graph.bank(1, rank, places)
            self._graph.use(self._graph.adapted(places), self._bank)
        self._bank.write(_SLOT, weights.changes)

    def losses(self, ids: Sequence[int], wanted: Sequence[bool]) -> Losses:
        """Nats of each token that is wanted, in order; the first has nothing before it and does not count. Both are of
        one length, up to `most_tokens`."""
        found = [
            self._chunk(ids, wanted, begin, min(begin + self._step_tokens, len(ids)))
            for begin in range(0, len(ids), self._step_tokens)
        ]
        return np.concatenate(found)

    def _chunk(self, ids: Sequence[int], wanted: Sequence[bool], begin: int, end: int) -> Losses:
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
            [_SLOT] * tokens if self._bank is not None else None,
        )
        logits = seen.logits[range(len(places)), [ids[place + 1] for place in places]]
        losses: Losses = seen.log_normaliser[: len(places)].astype(np.float64) - logits
        return losses
