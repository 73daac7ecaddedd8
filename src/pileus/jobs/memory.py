"""The memory of a process that computes: what one step frees, the next one takes again."""

import ctypes
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_NEVER: Final = -1
_BLOCKS_BYTES: Final = (1 << 30, 32 << 20)  # up to which blocks are kept: as wished, and the most that old ones allow


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for whoever asks next; whether it does: others than glibc may not know how.

    By itself it gives each large block back to the kernel at once. A training step frees hundreds of megabytes of
    activations and gradients, and would have all of them mapped, zeroed and faulted in again by the next step.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is None:
        return False
    return bool(tune(_TRIM_THRESHOLD, _NEVER)) and any(tune(_MMAP_THRESHOLD, size) for size in _BLOCKS_BYTES)
