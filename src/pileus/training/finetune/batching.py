"""Which examples a step takes: those of about the same length together, so that little is padded. A pure function of
the seed and the epoch, so that a run that goes on takes what it would have taken."""

import random
from collections.abc import Sequence

_JITTER = 0.15  # of a length: who shares a batch changes from epoch to epoch


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Places of examples, each once."""
    drawn = random.Random(f"{seed} {epoch}")  # noqa: S311  # repeatable is what it should be
    keys = [length * (1 + _JITTER * drawn.random()) for length in lengths]
    order = sorted(range(len(lengths)), key=lambda place: (keys[place], place))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    drawn.shuffle(batches)
    return batches
