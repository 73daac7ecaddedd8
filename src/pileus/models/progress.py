"""How a long act tells how far it is."""

from collections.abc import Callable

# Called with a stage ("downloading", "converting", ...), what is done and the total, in bytes; a total of 0 is unknown.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Nobody is watching."""
