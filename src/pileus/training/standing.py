"""How a run stands: its best evaluation so far, and how fast it is."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any


class Best:
    """The lowest validation loss, and how long ago it was."""

    def __init__(self, loss: float = math.inf, step: int = 0, waited: int = 0) -> None:
        self.loss = loss
        self.step = step  # 0 where there was none
        self._waited = waited  # evaluations since

    def takes(self, loss: float, step: int) -> bool:
        """Whether this evaluation is the best."""
        if loss < self.loss:
            self.loss, self.step, self._waited = loss, step, 0
            return True
        self._waited += 1
        return False

    def waited_enough(self, patience: int) -> bool:
        return 0 < patience <= self._waited

    def told(self) -> list[Any]:
        """What makes it again."""
        return [self.loss, self.step, self._waited] if self.step else []


class Pace:
    """Tokens per second, and what share of the machine's peak that is. What is no training does not count."""

    def __init__(self, flops_per_token: float, peak_flops: float, tokens: int) -> None:
        self._flops_per_token = flops_per_token
        self._peak_flops = peak_flops
        self._tokens = tokens
        self._at = perf_counter()

    def figures(self, tokens: int) -> dict[str, float]:
        """Since the last time, of which `tokens` is the count since the run began."""
        now = perf_counter()
        tokens_per_s = (tokens - self._tokens) / (now - self._at)
        self._tokens, self._at = tokens, now
        figures = {"tokens_per_s": tokens_per_s, "tokens": float(tokens)}
        if self._flops_per_token:
            figures["mfu"] = tokens_per_s * self._flops_per_token / self._peak_flops
        return figures

    @contextmanager
    def rest(self) -> Iterator[None]:
        """What is done meanwhile is no training."""
        begun = perf_counter()
        yield
        self._at += perf_counter() - begun
