"""The simulator against reality: the same arrivals through the real engine over HTTP, and in virtual time.

The engine's figures come from `pileus calibrate`, before the server starts, and the way of a request to the queue from
what the idle server says of itself; nothing of what is compared goes into them.
Each round sends the same lengths at the same times in new words. What was sent when, with the token counts that the
server told, is the trace that `pileus simulate` then reads.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, structs

from benchmarks.answers import Timeline, read_stream, read_whole
from benchmarks.client import Endpoint, RawAnswer, connect
from benchmarks.engines import Setting
from benchmarks.figures import Figures, inter_token_s
from benchmarks.pileus_server import MODEL, Home, make_home, pileus, serve
from benchmarks.results import Target
from benchmarks.run import Run
from benchmarks.suites.gateway import added_p50_ms
from pileus import __version__
from pileus.simulation.calibration import load, save

SUITE = "simulator"
REAL, SIMULATED = "pileus-real", "pileus-simulated"
COMPARED = ("ttft_p50_ms", "ttft_p90_ms", "tokens_per_s")

_NAME = "bench"
_SLOTS = 16
_DEPLOYMENT = f"""
[[deployment]]
name = "{_NAME}"
model = "{MODEL}"
options = {{ max_sequences = {_SLOTS} }}
"""

STEADY, BURSTS = "simulator-steady", "simulator-bursts"
WORKLOADS = {
    STEADY: "independent arrivals at 70% of the peak, prompts of 32 to 512 tokens, answers of 16 to 96",
    BURSTS: f"bursts of 24 on {_SLOTS} slots, three system prompts of 512 tokens in each, answers of 16 to 64",
}
_LOAD = 0.7
_IN_SEQUENCE = 20  # requests that show what is not the engine's
_AT_ONCE = 48  # requests that show the peak
_BURST, _BURST_EVERY_S = 24, 8.0
_SHARED_WORDS = 520  # a little more than a block of the trace
_TRACE_BLOCK = 512  # tokens, as Mooncake's traces have them

# Each is one token with the space before it.
_WORDS = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
"""


class Asked(Struct, frozen=True):
    """One arrival. `family` names the system prompt that it shares with others."""

    at_s: float
    prompt_words: int  # its own
    answer_tokens: int
    family: int | None = None


class Served(Struct, frozen=True):
    """An arrival as it was sent and answered."""

    asked: Asked
    line: Timeline


class _Line(Struct, frozen=True):
    """Of a trace, in Mooncake's format."""

    timestamp: float  # milliseconds
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


# --- what is asked --------------------------------------------------------------------------------------------------


def steady(per_s: float, duration_s: float) -> Iterator[Asked]:
    """Independent arrivals at a mean rate."""
    draws = random.Random(STEADY)
    at_s = draws.expovariate(per_s)
    while at_s < duration_s:
        yield _mixed(draws, at_s)
        at_s += draws.expovariate(per_s)


def bursts(duration_s: float) -> Iterator[Asked]:
    """More requests at once than there are slots; of three system prompts in each burst one is new."""
    draws = random.Random(BURSTS)
    for number in range(max(1, int(duration_s / _BURST_EVERY_S))):
        for place in range(_BURST):
            family = (0, 1, 2 + number)[place % 3]
            yield Asked(number * _BURST_EVERY_S, draws.randint(16, 160), draws.randint(16, 64), family)


def _mixed(draws: random.Random, at_s: float) -> Asked:
    """Short prompts are more frequent than long ones."""
    return Asked(at_s, round(32 * 16 ** draws.random()), draws.randint(16, 96))


def prompts(asked: Sequence[Asked], seed: str) -> list[str]:
    """Words that nobody else shares, behind those that a family shares."""
    draws = random.Random(seed)
    shared = {family: _words(draws, _SHARED_WORDS) for family in sorted({one.family for one in asked} - {None})}
    return [" ".join([*shared.get(one.family, ()), *_words(draws, one.prompt_words)]) for one in asked]


def _words(draws: random.Random, count: int) -> list[str]:
    return draws.choices(_WORDS.split(), k=count)


# --- reality --------------------------------------------------------------------------------------------------------


async def measure(run: Run, setting: Setting, chosen: Sequence[str], duration_s: float) -> None:
    """Calibrate, then each workload in each round: for real, and simulated."""
    run.results.titles |= WORKLOADS
    home = make_home(setting.family, setting.cache, _DEPLOYMENT)
    run.folder.mkdir(parents=True, exist_ok=True)
    calibration = run.folder / "engine.json"
    run.say("calibrating the engine")
    pileus("calibrate", _NAME, str(calibration), "--data", str(home.data), "--config", str(home.config))
    told = f"{_SLOTS} sequences, else its defaults; client and server share the cores"
    run.take_part(Target(REAL, "Pileus, over HTTP", __version__, "as Pileus above", told))
    await serve(setting.family, home, setting.logs / "pileus-simulator.log")
    endpoint = Endpoint(home.port, "/v1/completions", key=home.key)
    engine = structs.replace(load(calibration), request_s=await _request_s(endpoint))
    save(engine, calibration)
    run.take_part(Target(SIMULATED, "`pileus simulate`", __version__, "no model", engine.source))
    per_s = _LOAD * await _peak_per_s(endpoint)
    loads = {STEADY: list(steady(per_s, duration_s)), BURSTS: list(bursts(duration_s))}
    names = [name for name in WORKLOADS if name in chosen]
    with run.progress(SUITE, run.rounds * len(names)) as step:
        for number in range(1, run.rounds + 1):
            for name in names:
                step(f"{WORKLOADS[name]}, round {number}")
                served = await _send(endpoint, loads[name], f"{name}/{number}")
                run.keep(SUITE, name, REAL, number, of_served(served))
                trace = run.folder / "traces" / f"{name}-{number}.jsonl"
                write_trace(served, trace)
                run.keep(SUITE, name, SIMULATED, number, _simulated(trace, calibration, home))


async def _request_s(endpoint: Endpoint) -> float:
    """What HTTP, keys and the way from text to ids take: a request's time, less what the engine is said to take."""
    prompt = " ".join(_words(random.Random(_SLOTS), 128))
    request = endpoint.request({"model": _NAME, "prompt": prompt, "max_tokens": 1, "ignore_eos": True})
    [connection] = await connect(endpoint, 1)
    try:
        answers = [read_whole(await connection.send(request), 1) for _ in range(_IN_SEQUENCE)]
    finally:
        connection.close()
    return added_p50_ms(answers, 0.0) / 1e3


async def _peak_per_s(endpoint: Endpoint) -> float:
    """Requests per second of the mixed kind when there are always some that wait; the second time, to be warm."""
    draws = random.Random(_AT_ONCE)
    asked = [_mixed(draws, 0.0) for _ in range(_AT_ONCE)]
    await _send(endpoint, asked[:_SLOTS], "warm")
    served = await _send(endpoint, asked, "peak")
    return len(served) / (max(one.line.pieces_s[-1] for one in served) - min(one.line.sent_s for one in served))


async def _send(endpoint: Endpoint, asked: Sequence[Asked], seed: str) -> list[Served]:
    """Each in its time, on a connection of its own, whether or not those before it were answered."""
    requests = [endpoint.request(_body(one, text)) for one, text in zip(asked, prompts(asked, seed), strict=True)]
    begun_s = perf_counter()

    async def send(one: Asked, request: bytes) -> RawAnswer:
        await asyncio.sleep(begun_s + one.at_s - perf_counter())
        [connection] = await connect(endpoint, 1)
        try:
            return await connection.send(request)
        finally:
            connection.close()

    raw = await asyncio.gather(*map(send, asked, requests))
    return [Served(one, read_stream(answer, one.answer_tokens)) for one, answer in zip(asked, raw, strict=True)]


def _body(one: Asked, text: str) -> dict[str, object]:
    return {
        "model": _NAME,
        "prompt": text,
        "max_tokens": one.answer_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def of_served(served: Sequence[Served]) -> Figures:
    """As the client saw it; percentiles as the simulator's report has them."""
    lines = [one.line for one in served]
    first_ms = [1e3 * (line.pieces_s[0] - line.sent_s) for line in lines]
    took_s = max(line.pieces_s[-1] for line in lines) - min(line.sent_s for line in lines)
    p50, p90 = np.percentile(first_ms, (50, 90))
    return {
        "ttft_p50_ms": float(p50),
        "ttft_p90_ms": float(p90),
        "itl_p50_ms": 1e3 * float(np.median([inter_token_s(line) for line in lines])),
        "tokens_per_s": sum(line.tokens for line in lines) / took_s,
        "requests": float(len(lines)),
    }


# --- virtual time ---------------------------------------------------------------------------------------------------


def write_trace(served: Sequence[Served], path: Path) -> None:
    """What was sent when, how long prompt and answer were, and which prompts begin alike."""
    begun_s = min(one.line.sent_s for one in served)
    names = len(served)
    lines = []
    for number, one in enumerate(served):
        family = () if one.asked.family is None else (names + one.asked.family,)
        blocks = one.line.prompt_tokens // _TRACE_BLOCK + 1 - len(family)
        at_ms = 1e3 * (one.line.sent_s - begun_s)
        lines.append(_Line(at_ms, one.line.prompt_tokens, one.line.tokens, family + (number,) * blocks))
    lines.sort(key=lambda line: line.timestamp)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def _simulated(trace: Path, calibration: Path, home: Home) -> Figures:
    told = pileus(
        *("simulate", "--trace", str(trace), "--engine", str(calibration), "--config", str(home.config)),
        *("--replicas", "1", "--json"),
    )
    return of_report(msgspec.json.decode(told)[0])


def of_report(report: dict[str, Any]) -> Figures:
    """The same figures from what `pileus simulate --json` says."""
    return {
        "ttft_p50_ms": 1e3 * report["ttft_s"]["p50"],
        "ttft_p90_ms": 1e3 * report["ttft_s"]["p90"],
        "itl_p50_ms": 1e3 * report["itl_s"]["p50"],
        "tokens_per_s": report["tokens_per_s"],
        "requests": float(report["endings"]["finished"]),
    }
