"""Whether a ready replica is hung: a long step is told from one that never ends by how long its steps usually take."""

from collections.abc import Iterable

from msgspec import Struct

SHORTEST_PATIENCE_S = 2.0  # its sign of life comes twice a second
LONGEST_PATIENCE_S = 5.0
STEPS_OF_PATIENCE = 4.0


class Signs(Struct, frozen=True, kw_only=True):
    """What is seen of a replica from outside."""

    heard_s: float  # when it last said anything
    stepped_s: float  # when it last ended a step, or was idle
    steps_s: tuple[float, ...] = ()  # how long its latest steps took


def patience_s(steps_s: Iterable[float]) -> float:
    """How long a step may take: a multiple of the 99th percentile, within bounds; long where nothing is known."""
    ordered = sorted(steps_s)
    if not ordered:
        return LONGEST_PATIENCE_S
    p99_s = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return min(max(STEPS_OF_PATIENCE * p99_s, SHORTEST_PATIENCE_S), LONGEST_PATIENCE_S)


def hung(signs: Signs, now: float) -> str:
    """Why the replica must be given up; empty while it need not be."""
    patience = patience_s(signs.steps_s)
    if now - signs.heard_s > patience:
        return f"it has said nothing for {now - signs.heard_s:.1f} s"
    if now - signs.stepped_s > patience:
        return f"its step has taken {now - signs.stepped_s:.1f} s"
    return ""
