"""To which part of the data a document goes: by its own digest, so that it is always the same part, whatever else
there is."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SPLITS: Final = ("train", "validation", "test")


def split_of(digests: NDArray[np.uint64], validation: float, test: float) -> NDArray[np.uint8]:
    """The number of each document's split, in `SPLITS`. `digests` are evenly spread over 64 bits; the shares are from
    0 to 1."""
    spread = digests.astype(np.float64) / 2.0**64
    chosen = np.zeros(len(digests), np.uint8)
    chosen[spread < validation + test] = SPLITS.index("test")
    chosen[spread < validation] = SPLITS.index("validation")
    return chosen
