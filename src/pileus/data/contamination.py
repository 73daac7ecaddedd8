"""Whether a document holds what models are evaluated on: a run of 13 words that an evaluation set has too (Brown et al.
2020, appendix C), where a Chinese or Japanese character is a word."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from pileus.data.words import Numbers, Words, runs, words_of

RUN: Final = 13
_BATCH: Final = 1 << 20  # numbers, put in order together


class Contamination:
    """The runs of all evaluation texts: 8 bytes each."""

    def __init__(self, ordered_runs: Numbers) -> None:
        self._runs = ordered_runs

    def __len__(self) -> int:
        return len(self._runs)

    def overlaps(self, words: Words) -> int:
        """How many of the document's runs an evaluation text has."""
        if not len(self._runs):
            return 0
        own = runs(words.numbers, RUN)
        places = np.searchsorted(self._runs, own)
        places[places == len(self._runs)] = 0
        return int(np.count_nonzero(self._runs[places] == own))


def runs_of(texts: Iterable[str]) -> Numbers:
    """In order, each once. A text that is shorter than a run has none."""
    found: Numbers = np.zeros(0, np.uint64)
    waiting: list[Numbers] = []
    held = 0
    for text in texts:
        waiting.append(runs(words_of(text).numbers, RUN))
        held += len(waiting[-1])
        if held > _BATCH:
            found = np.unique(np.concatenate([found, *waiting]))
            waiting, held = [], 0
    return np.unique(np.concatenate([found, *waiting]))
