"""Timelines to figures. One figure is one number of one run; `report` takes medians over rounds."""

import math
from collections.abc import Sequence
from statistics import fmean, median

from benchmarks.answers import Timeline, Whole

Figures = dict[str, float]


def of_streams(timelines: Sequence[Timeline]) -> Figures:
    """Of requests that were sent together.

    tokens_per_s: all output tokens, from the first request sent to the last token received.
    ttft_ms: median over requests. itl_ms: median over requests of the mean time between tokens after the first.
    stall_ms: the longest silence within any answer. total_s: of all together.
    """
    begin = min(line.sent_s for line in timelines)
    end = max(line.pieces_s[-1] for line in timelines)
    gaps = [
        later - earlier for line in timelines for earlier, later in zip(line.pieces_s, line.pieces_s[1:], strict=False)
    ]
    return {
        "tokens_per_s": sum(line.tokens for line in timelines) / (end - begin),
        "ttft_ms": 1e3 * median(line.pieces_s[0] - line.sent_s for line in timelines),
        "itl_ms": 1e3 * median(inter_token_s(line) for line in timelines),
        "stall_ms": 1e3 * max(gaps, default=0.0),
        "total_s": end - begin,
    }


def of_stream_load(timelines: Sequence[Timeline]) -> Figures:
    """Of a closed loop of streams: tokens over the time from the first request to the last token.

    events_per_s: those that carried text, of one token or of several that came together.
    open: how many answers were between their first and their last piece at the same time.
    """
    figures = of_streams(timelines)
    return {name: figures[name] for name in ("tokens_per_s", "ttft_ms", "itl_ms")} | {
        "events_per_s": sum(len(line.pieces_s) for line in timelines) / figures["total_s"],
        "open": peak_open(timelines),
    }


def of_whole_load(answers: Sequence[Whole]) -> Figures:
    """Of a closed loop of answers that were not streamed."""
    begin, end = min(answer.sent_s for answer in answers), max(answer.done_s for answer in answers)
    latencies = [answer.done_s - answer.sent_s for answer in answers]
    return {
        "requests_per_s": len(answers) / (end - begin),
        "latency_p50_ms": 1e3 * median(latencies),
        "latency_p99_ms": 1e3 * percentile(latencies, 99),
        "latency_mean_ms": 1e3 * fmean(latencies),
    }


def inter_token_s(line: Timeline) -> float:
    """Mean time per token after the first; a single token has none."""
    return (line.pieces_s[-1] - line.pieces_s[0]) / (line.tokens - 1) if line.tokens > 1 else 0.0


def peak_open(timelines: Sequence[Timeline]) -> float:
    """How many answers were between their first and their last piece at the same time, at most."""
    edges = sorted([(line.pieces_s[0], 1) for line in timelines] + [(line.pieces_s[-1], -1) for line in timelines])
    level = peak = 0
    for _, change in edges:
        level += change
        peak = max(peak, level)
    return float(peak)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
