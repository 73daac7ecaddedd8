"""Whether a ready replica is hung: a long step is told from one that never ends by how long its steps usually take and
how many tokens this one has.

Silence is another matter: a replica says how it is twice a second from a thread of its own, however long a step takes.
So a process that stops is found within `SILENCE_S`; an engine whose one step never ends, after its patience, which has
no bound but what its steps take: prompts of 100,000 tokens are no hang.
"""

from collections.abc import Iterable

from msgspec import Struct

SILENCE_S = 4.0
SHORTEST_STEP_S = 2.0
UNKNOWN_STEP_S = 60.0  # before anything was measured
STEPS_OF_PATIENCE = 4.0


class Signs(Struct, frozen=True, kw_only=True):
    """What is seen of a replica from outside."""

    heard_s: float  # when it last said anything
    stepped_s: float  # when it last ended a step, or was idle
    steps_s: tuple[float, ...] = ()  # how long its latest steps took
    token_s: tuple[float, ...] = ()  # what a token took, in some intervals of late
    planned_tokens: int = 0  # of the step that is under way


def patience_s(signs: Signs) -> float:
    """How long the step may take: a multiple of the 99th percentile of those before, or of what its tokens took in the
    slowest interval, whichever is more. A token that is decoded takes longer than one of many that are prefilled
    together, so this is generous."""
    usual_s = _p99(signs.steps_s)
    planned_s = signs.planned_tokens * max(signs.token_s, default=0.0)
    if not usual_s or (signs.planned_tokens and not planned_s):
        return UNKNOWN_STEP_S
    return max(STEPS_OF_PATIENCE * usual_s, STEPS_OF_PATIENCE * planned_s, SHORTEST_STEP_S)


def hung(signs: Signs, now: float) -> str:
    """Why the replica must be given up; empty while it need not be."""
    if now - signs.heard_s > SILENCE_S:
        return f"it has said nothing for {now - signs.heard_s:.1f} s"
    if now - signs.stepped_s > patience_s(signs):
        return f"its step has taken {now - signs.stepped_s:.1f} s"
    return ""


def _p99(values: Iterable[float]) -> float:
    """0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0
