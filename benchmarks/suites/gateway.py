"""The gateway alone: what it adds to a request, and how much of it one core can do."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from msgspec import Struct

from benchmarks.answers import BadAnswer, Whole, read_stream, read_whole
from benchmarks.client import RawAnswer, connect, send_each, send_for
from benchmarks.figures import Figures, of_stream_load, of_whole_load
from benchmarks.gateways import INSTANT, OTHER_CORES, PACED, STEADY_32, STEADY_256, STEP_S, Gateway
from benchmarks.processes import StartError, cpu_s, on_cores, rss_mib
from benchmarks.run import Run

SUITE = "gateway"
OPEN_STREAMS = 2000
_WARM_UP_S = 1.0


class Load(Struct, frozen=True):
    """A closed loop: `concurrency` connections, each of which asks again as soon as it has its answer."""

    name: str
    title: str
    concurrency: int
    tokens: int
    streamed: bool
    model: str = INSTANT


def _steady(streams: int, model: str) -> str:
    step_s = STEP_S[model]
    offered = streams / step_s
    return f"{streams} concurrent streams of 64 tokens, one each {1e3 * step_s:g} ms: {offered:,.0f}/s are offered"


LOADS = (
    Load("sequential", "one after the other, not streamed, 1 token", 1, 1, False),
    Load("whole-32", "32 concurrent, not streamed, 16 tokens", 32, 16, False),
    Load("stream-32", "32 concurrent streams of 64 tokens", 32, 64, True),
    Load("stream-256", "256 concurrent streams of 64 tokens", 256, 64, True),
    Load("steady-32", _steady(32, STEADY_32), 32, 64, True, STEADY_32),
    Load("steady-256", _steady(256, STEADY_256), 256, 64, True, STEADY_256),
)
OPEN = Load(
    "open-2000", f"{OPEN_STREAMS} streams at once, a token each in {STEP_S[PACED]} s", OPEN_STREAMS, 64, True, PACED
)


async def measure(run: Run, gateways: Sequence[Gateway], loads: Sequence[Load], duration_s: float) -> None:
    """In turns, the waiting ones paused. The bare ceiling is first in each round: it tells the latency of nothing."""
    failed: set[tuple[str, str]] = set()
    _pause(gateways)
    with on_cores(OTHER_CORES), run.progress("gateway", len(loads) * run.rounds * len(gateways)) as step:
        for load in loads:
            run.results.titles[load.name] = load.title
            for number in range(1, run.rounds + 1):
                floor_ms: float | None = None
                for gateway in gateways:
                    name = gateway.target.name
                    step(f"{load.title}, round {number}: {gateway.target.title}")
                    if (name, load.name) in failed or load.model not in gateway.models:
                        continue
                    try:
                        with awake(gateway):
                            figures = await _measure(gateway, load, duration_s, floor_ms)
                    except (BadAnswer, OSError) as error:
                        failed.add((name, load.name))
                        run.miss(name, load.name, str(error))
                        continue
                    if name == "bare":
                        floor_ms = figures.get("latency_p50_ms")
                    run.keep(SUITE, load.name, name, number, figures)


async def measure_open_streams(run: Run, gateway: Gateway) -> None:
    """Streams by the thousand on the paced fake engine, all open at the same time; all must end whole."""
    run.results.titles[OPEN.name] = OPEN.title
    with awake(gateway), on_cores(OTHER_CORES), _open_files(OPEN_STREAMS + 200):
        request = gateway.endpoint.request(_body(OPEN))
        connections = await connect(gateway.endpoint, OPEN_STREAMS)
        try:
            raw = await send_each(connections, [request] * OPEN_STREAMS)
            figures = of_stream_load([read_stream(answer, OPEN.tokens) for answer in raw])
            run.keep(SUITE, OPEN.name, gateway.target.name, 1, figures | {"rss_mib": rss_mib(gateway.pid)})
        except (BadAnswer, OSError) as error:
            run.miss(gateway.target.name, OPEN.name, str(error))
        finally:
            for connection in connections:
                connection.close()


async def _measure(gateway: Gateway, load: Load, duration_s: float, floor_ms: float | None) -> Figures:
    request = gateway.endpoint.request(_body(load))
    await _send_for(gateway, load.concurrency, request, min(_WARM_UP_S, duration_s))
    begun_s = cpu_s(gateway.pid)
    raw = await _send_for(gateway, load.concurrency, request, duration_s)
    used_s = cpu_s(gateway.pid) - begun_s
    of_process = {"cpu_ms_per_request": 1e3 * used_s / len(raw), "rss_mib": rss_mib(gateway.pid)}
    return _figures(raw, load, floor_ms) | of_process


async def _send_for(gateway: Gateway, concurrency: int, request: bytes, duration_s: float) -> list[RawAnswer]:
    """The closed loop on connections of its own: servers close those that were idle for some seconds."""
    connections = await connect(gateway.endpoint, concurrency)
    try:
        return await send_for(connections, request, duration_s)
    finally:
        for connection in connections:
            connection.close()


def _figures(raw: Sequence[RawAnswer], load: Load, floor_ms: float | None) -> Figures:
    if load.streamed:
        return of_stream_load([read_stream(answer, load.tokens) for answer in raw])
    whole = [read_whole(answer, load.tokens) for answer in raw]
    figures = of_whole_load(whole)
    return figures if floor_ms is None else figures | {"added_p50_ms": added_p50_ms(whole, floor_ms)}


def added_p50_ms(answers: Sequence[Whole], floor_ms: float) -> float:
    """What the gateway added. Ours tells in its headers how long the engine took: the rest is taken as ours, the
    client's and the network's share included. Of others the latency without any gateway, `floor_ms`, is subtracted."""
    engine_ms = [
        float(answer.headers.get("x-pileus-prefill-ms", 0)) + float(answer.headers.get("x-pileus-decode-ms", 0))
        for answer in answers
    ]
    told = "x-pileus-prefill-ms" in answers[0].headers
    totals_ms = [1e3 * (answer.done_s - answer.sent_s) for answer in answers]
    if told:
        return median(total - engine for total, engine in zip(totals_ms, engine_ms, strict=True))
    return median(totals_ms) - floor_ms


def _body(load: Load) -> dict[str, object]:
    message = {"role": "user", "content": "Say something about clouds, and take your time about it."}
    body: dict[str, object] = {"model": load.model, "messages": [message], "max_tokens": load.tokens}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if load.streamed else {})


@contextmanager
def awake(gateway: Gateway) -> Iterator[None]:
    """Let it run meanwhile."""
    for process in gateway.processes:
        process.resume()
    try:
        yield
    finally:
        for process in gateway.processes:
            process.pause()


def _pause(gateways: Sequence[Gateway]) -> None:
    for gateway in gateways:
        for process in gateway.processes:
            process.pause()


@contextmanager
def _open_files(count: int) -> Iterator[None]:
    """Allow this process so many sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        raise StartError(f"{count} open files are needed, {hard} are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
