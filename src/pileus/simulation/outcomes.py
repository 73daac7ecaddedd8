"""What became of every request of a run: columns, since there may be millions."""

from array import array
from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from pileus.scheduling.fairness import work
from pileus.simulation.request import Ending, Request

_ENDINGS: Sequence[Ending] = tuple(Ending)
_PLACES: Mapping[Ending, int] = {ending: place for place, ending in enumerate(_ENDINGS)}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Outcomes:
    """One row per request, in the order of their ends. Times are seconds of the run."""

    def __init__(self) -> None:
        self.tenants: list[str] = []
        self.resumed = 0  # requests that were on a replica that died, and went on
        self.preemptions = 0  # of sequences, on their replicas
        self.exchanged = 0  # slots that one tenant gave up to another
        self.replica_s = 0.0  # that replicas were up
        self.busy_s = 0.0  # that they spent in steps
        self._tenant_places: dict[str, int] = {}
        self._at, self._first, self._end = array("d"), array("d"), array("d")
        self._prompt, self._answer, self._cached = array("q"), array("q"), array("q")
        self._tenant, self._ending = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._at)

    def add(self, request: Request, ending: Ending, now: float) -> None:
        """Exactly once for each."""
        tenant = self._tenant_places.setdefault(request.tenant, len(self.tenants))
        if tenant == len(self.tenants):
            self.tenants.append(request.tenant)
        self._at.append(request.at)
        self._first.append(nan if request.first_at is None else request.first_at)
        self._end.append(now)
        self._prompt.append(request.prompt_tokens)
        self._answer.append(request.answer_tokens)
        self._cached.append(request.cached_tokens)
        self._tenant.append(tenant)
        self._ending.append(_PLACES[ending])

    def ended(self, ending: Ending) -> Bools:
        """Which rows ended like that."""
        return np.asarray(_ints(self._ending) == _PLACES[ending])

    @property
    def tenant(self) -> Ints:
        """Places in `tenants`."""
        return _ints(self._tenant)

    @property
    def at(self) -> Floats:
        return np.frombuffer(self._at)

    @property
    def end(self) -> Floats:
        return np.frombuffer(self._end)

    @property
    def ttft_s(self) -> Floats:
        """NaN where nothing was said."""
        return np.frombuffer(self._first) - self.at

    @property
    def itl_s(self) -> Floats:
        """Mean time between two tokens of an answer; 0 for one of a single token, NaN where nothing was said."""
        gaps = np.maximum(1, self.answer_tokens - 1)
        return np.where(self.answer_tokens > 1, (self.end - np.frombuffer(self._first)) / gaps, 0.0 * self.ttft_s)

    @property
    def prompt_tokens(self) -> Ints:
        return _ints(self._prompt)

    @property
    def answer_tokens(self) -> Ints:
        return _ints(self._answer)

    @property
    def cached_tokens(self) -> Ints:
        return _ints(self._cached)

    @property
    def work(self) -> Floats:
        """What each takes, as fairness counts it."""
        return np.asarray(work(0, 1.0) * self.answer_tokens + self.prompt_tokens, dtype=np.float64)


def _ints(column: "array[int]") -> Ints:
    return np.frombuffer(column, dtype=np.int64)
