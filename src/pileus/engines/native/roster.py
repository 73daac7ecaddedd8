"""Which sequences wait and which run, and the blocks that each has for its keys and values."""

from collections.abc import Callable

from pileus.core.records import Lane
from pileus.engines.native.batch import Plan
from pileus.engines.native.blocks import BlockManager, OutOfBlocks
from pileus.engines.native.figures import Figures
from pileus.engines.native.sequence import Sequence
from pileus.engines.native.shelf import Shelf
from pileus.scheduling.step import choose_victim, plan_step, urgency


class Roster:
    """For the engine's thread. `copy_block` copies one block's keys and values to another."""

    def __init__(
        self,
        blocks: BlockManager,
        shelf: Shelf | None,
        figures: Figures,
        copy_block: Callable[[int, int], None],
        *,
        slots: int,
        step_tokens: int,
    ) -> None:
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._blocks = blocks
        self._shelf = shelf
        self._figures = figures
        self._copy_block = copy_block
        self._slots = slots
        self._step_tokens = step_tokens

    @property
    def adapters(self) -> set[str]:
        """Of those that run."""
        return {s.request.adapter for s in self.running if s.request.adapter}

    def of(self, request_id: int) -> list[Sequence]:
        """Those of a request that have not ended."""
        return [s for s in self.running + self.waiting if s.request.id == request_id]

    def drop(self, sequence: Sequence) -> None:
        """It has ended."""
        self._release(sequence)
        (self.running if sequence in self.running else self.waiting).remove(sequence)

    # --- before a step ------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Give slots and blocks to those that wait, most urgent first, as long as they fit. Those whose adapter is
        being loaded wait aside."""
        self.waiting.sort(key=urgency)
        kept = {s.request.adapter for s in self.running}
        place = 0
        while place < len(self.waiting):
            sequence = self.waiting[place]
            if not self._has_adapter(sequence, kept):
                place += 1
                continue
            if not self._open(sequence):
                batch = [s for s in self.running if s.lane is Lane.BATCH]
                if sequence.lane is Lane.BATCH or not batch:
                    return
                self._preempt(choose_victim(batch))
                self.waiting.sort(key=urgency)
                continue
            sequence.computed = 0
            self.running.append(self.waiting.pop(place))

    def _has_adapter(self, sequence: Sequence, kept: set[str]) -> bool:
        adapter = sequence.request.adapter
        if not adapter:
            return True
        assert self._shelf is not None
        kept.add(adapter)
        return self._shelf.ready(adapter, kept)

    def _open(self, sequence: Sequence) -> bool:
        """Give it a table of blocks, if there are slots and blocks for it."""
        held = sum(1 + len(s.siblings) for s in self.running)
        if held + 1 + len(sequence.siblings) > self._slots:
            return False
        try:
            sequence.table = self._blocks.open(sequence.id, sequence.tokens, sequence.salt)
        except OutOfBlocks:
            return False
        return True

    def schedule(self) -> Plan:
        """Chunks for this step, each with room for its keys and values."""
        for sequence in self.running:
            self._look_ahead(sequence)
        plan: Plan = []
        for sequence, tokens in plan_step(self.running, self._step_tokens):
            # Whoever is written into the plan keeps its blocks: victims come from those that are not.
            if sequence.table is not None and self._make_room(sequence, plan):
                plan.append((sequence, tokens))
        return plan

    def _look_ahead(self, sequence: Sequence) -> None:
        """Skip what others have computed, and see how much can be computed now."""
        table = sequence.table
        assert table is not None
        last = len(sequence.tokens) - 1
        if sequence.computed < last:
            found = self._blocks.reusable(table, sequence.computed)
            sequence.reused += max(0, found - max(sequence.computed, sequence.own))
            sequence.computed = found
            sequence.pending = self._blocks.writable(table, found, last + 1)
        else:
            sequence.pending = 1

    def _make_room(self, sequence: Sequence, plan: Plan) -> bool:
        """A block of its own for what the sequence writes next; preempts others, or itself, where there is none."""
        assert sequence.table is not None
        while True:
            try:
                copy = self._blocks.extend(sequence.table, sequence.computed)
            except OutOfBlocks:
                planned = {id(s) for s, _ in plan}
                victim = choose_victim(s for s in self.running if id(s) not in planned)
                self._preempt(victim)
                if victim is sequence:
                    return False
            else:
                if copy is not None:
                    self._copy_block(*copy)
                return True

    def _preempt(self, victim: Sequence) -> None:
        """Back to the queue: it resumes from its prompt and emitted tokens, over blocks that still exist by then."""
        self._release(victim)
        victim.own = max(victim.own, victim.computed)
        victim.computed = 0
        self.running.remove(victim)
        self.waiting.append(victim)
        self._figures.count(preemptions=1)

    # --- behind it ----------------------------------------------------------------------------------------------------

    def advance(self, plan: Plan) -> None:
        """The keys and values of the plan's tokens exist now; prompts that are complete fork."""
        for sequence, tokens in plan:
            sequence.computed += tokens
            assert sequence.table is not None
            self._blocks.computed(sequence.table, sequence.tokens, sequence.computed)
            if sequence.siblings and sequence.computed == len(sequence.tokens):
                self._fork(sequence)

    def _fork(self, leader: Sequence) -> None:
        assert leader.table is not None
        for sibling in leader.siblings:
            sibling.table = self._blocks.fork(leader.table, sibling.id)
            sibling.computed = leader.computed
            sibling.prefill_began_at = leader.prefill_began_at
            self.running.append(sibling)
        leader.siblings = []

    def _release(self, sequence: Sequence) -> None:
        if sequence.table is not None:
            self._blocks.close(sequence.table)
            sequence.table = None
