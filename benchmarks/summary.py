"""Measurements to medians: what the tables, the plots and the goals are made from."""

from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct

from benchmarks.results import Results


class Spread(Struct, frozen=True):
    """A median over rounds, with the least and the greatest of them."""

    median: float
    low: float
    high: float
    rounds: int


class NoFigure(Exception):
    """Nothing was measured that would tell."""


def spread(values: Sequence[float]) -> Spread:
    if not values:
        raise NoFigure
    return Spread(median(values), min(values), max(values), len(values))


def by_round(results: Results, workload: str, target: str, figure: str) -> dict[int, float]:
    """One figure of all rounds in which it was measured."""
    return {
        one.round: one.figures[figure]
        for one in results.measurements
        if (one.workload, one.target) == (workload, target) and figure in one.figures
    }


def of(results: Results, workload: str, target: str, figure: str) -> Spread:
    return spread(list(by_round(results, workload, target, figure).values()))


def ratio(above: dict[int, float], below: dict[int, float]) -> Spread:
    """Pairwise: round by round first, and then the median, so that a slow minute of the machine cancels out."""
    return spread([above[number] / below[number] for number in above if number in below])


def targets_of(results: Results, suite: str) -> list[str]:
    """Those with a figure in the suite, in the order in which they took part."""
    seen = {one.target for one in results.measurements if one.suite == suite}
    return [target.name for target in results.targets if target.name in seen]


def workloads_of(results: Results, suite: str) -> list[str]:
    return list(dict.fromkeys(one.workload for one in results.measurements if one.suite == suite))


Read = Callable[[Results], Spread]


class Goal(Struct, frozen=True):
    """What was promised, how it is read off, and whether more or less is better."""

    promise: str
    bound: float
    at_least: bool
    unit: str
    read: Read

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def _figure(target: str, workload: str, figure: str) -> Read:
    return lambda results: of(results, workload, target, figure)


def _against(other: str) -> Read:
    def read(results: Results) -> Spread:
        ours = by_round(results, "concurrent-32", "pileus", "tokens_per_s")
        return ratio(ours, by_round(results, "concurrent-32", other, "tokens_per_s"))

    return read


def _uncached_over_cached(results: Results) -> Spread:
    uncached = by_round(results, "prefix-uncached", "pileus", "total_s")
    return ratio(uncached, by_round(results, "prefix-cached", "pileus", "total_s"))


GOALS = (
    Goal("32 concurrent, Pileus over HTTP : raw OpenVINO GenAI in-process", 1.0, True, "x", _against("genai")),
    Goal("32 concurrent, Pileus : vLLM (CPU, bf16)", 1.05, True, "x", _against("vllm")),
    Goal("32 concurrent, Pileus : llama.cpp (Q8_0)", 2.0, True, "x", _against("llamacpp")),
    Goal("32 requests on an uncached shared prefix : on a cached one", 1.35, False, "x", _uncached_over_cached),
    Goal("Python's share of a decode step", 5, False, "%", _figure("pileus", "decode-share", "python_percent")),
    Goal("`make up` to the first token", 6, False, "s", _figure("pileus-up", "make-up", "first_token_s")),
    Goal("idle memory of the server", 300, False, "MiB", _figure("pileus-up", "make-up", "server_rss_mib")),
    Goal(
        "gateway on one core, not streamed",
        1500,
        True,
        "requests/s",
        _figure("pileus-gateway", "whole-32", "requests_per_s"),
    ),
    Goal(
        "gateway on one core, 32 streams",
        40_000,
        True,
        "tokens/s",
        _figure("pileus-gateway", "stream-32", "tokens_per_s"),
    ),
    Goal(
        "gateway on one core, 256 streams",
        25_000,
        True,
        "tokens/s",
        _figure("pileus-gateway", "stream-256", "tokens_per_s"),
    ),
    Goal(
        "gateway, added to a request in sequence (p50)",
        1,
        False,
        "ms",
        _figure("pileus-gateway", "sequential", "added_p50_ms"),
    ),
    Goal(
        "gateway, streams open at the same time", 2000, True, "streams", _figure("pileus-gateway", "open-2000", "open")
    ),
)
