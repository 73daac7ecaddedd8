"""Which sequences get how many tokens in the next engine step.

Every decoding sequence gets its one token first; prompts are prefilled in chunks with what the token budget leaves, in
order of arrival. So a long prompt never delays a decode by more than one bounded step (chunked prefill, after
Sarathi-Serve, arXiv:2403.02310). Batch work comes after all of this and gets what is left: it yields within one step.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from pileus.core.records import Lane


class Runnable(Protocol):
    """What the scheduler sees of a sequence that holds a slot."""

    @property
    def lane(self) -> Lane: ...

    @property
    def arrival(self) -> int:
        """Order of arrival on this engine."""
        ...

    @property
    def pending(self) -> int:
        """Tokens that can be computed now: 1 while decoding, 0 while waiting for another's prefix blocks."""
        ...


S = TypeVar("S", bound=Runnable)


def urgency(sequence: Runnable) -> tuple[bool, int]:
    """Sort key: most urgent first. What waits for a slot has been put in a fair order by then, and one urgent lane is
    as good as the other: were on-demand work first here, it could keep continuous work from its guaranteed rate."""
    return sequence.lane is Lane.BATCH, sequence.arrival


def _turn(sequence: Runnable) -> tuple[bool, bool, int]:
    """Sort key of a step: urgent decodes, urgent prefills, then the same of batch work."""
    return sequence.lane is Lane.BATCH, sequence.pending > 1, sequence.arrival


def plan_step(sequences: Iterable[S], token_budget: int) -> list[tuple[S, int]]:
    """Pair each chosen sequence with its number of tokens; the sum is at most `token_budget`."""
    plan: list[tuple[S, int]] = []
    left = token_budget
    for sequence in sorted((s for s in sequences if s.pending), key=_turn):
        if left == 0:
            break
        tokens = min(left, sequence.pending)
        plan.append((sequence, tokens))
        left -= tokens
    return plan


def choose_victim(sequences: Iterable[S]) -> S:
    """The sequence that gives its blocks back when there are no more: least urgent, then youngest."""
    return max(sequences, key=urgency)
