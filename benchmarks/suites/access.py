"""Many people, few replicas: overload, noisy neighbours, reservations, and batch work beside interactive work.

On the fake engine, whose steps take the time that they are told to: what is measured is who gets which slot when.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.answers import read_stream
from benchmarks.client import Endpoint, connect, send_for
from benchmarks.engines import Setting
from benchmarks.figures import Figures, percentile
from benchmarks.gateways import GATEWAY_CORES, OTHER_CORES
from benchmarks.official import call_openly
from benchmarks.open_loop import Arrival, Sent, bursts, poisson, send_openly
from benchmarks.pileus_server import Home, make_home, make_key, serve
from benchmarks.processes import on_cores, pin
from benchmarks.results import Target
from benchmarks.run import Run
from benchmarks.shares import jain, latencies, of_load, steady_rate, tokens_by_tenant
from pileus import __version__

SUITE = "access"
TARGET = "pileus-access"
TOKENS = 64
SLOTS = 32
STEP_S = 0.02
MODEL = "access"
_PATH = "/v1/completions"
_PROMPT = "A question of ordinary length, as many people ask it. " * 4
_NEAR_PEAK = 0.8  # what 1x means
_QUIET = 0.1  # of the peak
_INTERACTIVE_BURST, _BURST_EVERY_S = 8, 2.0
_RESERVED = 0.3  # of the peak
_SURGE_S = 3.0
_WARM_UP_S = 3.0

_LOADS = {f"access-{times}x": times * _NEAR_PEAK for times in (1, 5, 10)}  # of the peak

# How batch work is let through: so many at a time, and in which tier.
_GATES: dict[str, tuple[int, str | None]] = {
    "access-alone": (0, None),
    "access-ungated": (4 * SLOTS, None),
    "access-capped": (8, None),
    "access-lane": (4 * SLOTS, "flex"),
}

_DEPLOYMENT = f"""
[[deployment]]
name = "{MODEL}"
model = "fake"
engine = "fake"
options = {{ slots = {SLOTS}, kv_blocks = 65536, step_s = {STEP_S} }}
"""
# Where load may be refused, it is as soon as it would wait for more than a few steps.
_MAX_FORESEEN_S = 0.05
_IMPATIENT = f"[queue]\nmax_foreseen_s = {_MAX_FORESEEN_S}\n{_DEPLOYMENT}"

PEAK = "access-peak"
WORKLOADS = {
    PEAK: "the peak: a closed loop that keeps all slots busy",
    "access-1x": "arrivals at 1x: 80% of the peak",
    "access-5x": "arrivals at 5x",
    "access-10x": "arrivals at 10x",
    "access-retries": f"a surge of {_SURGE_S:g} s at 5x, of OpenAI's own client with its own retries",
    "access-quiet": "a quiet tenant alone: a tenth of the peak",
    "access-noisy": "the same tenant beside one that sends twenty times as much",
    "access-equal": "four tenants that each ask for all of the peak",
    "access-reserved": "a tenant with 30% of the peak reserved, beside two that each send five times the peak",
    "access-alone": f"interactive bursts of {_INTERACTIVE_BURST} every {_BURST_EVERY_S:g} s, alone",
    "access-ungated": "the same beside the same tenant's batch work, with no gate",
    "access-capped": "the same beside batch work of at most 8 at a time",
    "access-lane": "the same beside batch work in the batch lane",
}


class House(Struct, frozen=True):
    """A server with its keys by tenant, and what it can do at most."""

    home: Home
    keys: dict[str, str]
    peak_tokens_per_s: float = 0.0

    def endpoint(self, tenant: str) -> Endpoint:
        return Endpoint(self.home.port, _PATH, key=self.keys[tenant])

    def request(self, tenant: str, tier: str | None = None) -> bytes:
        body: dict[str, object] = {
            "model": MODEL,
            "prompt": _PROMPT,
            "max_tokens": TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return self.endpoint(tenant).request(body | ({"service_tier": tier} if tier else {}))

    @property
    def peak_per_s(self) -> float:
        """Requests."""
        return self.peak_tokens_per_s / TOKENS


async def measure(run: Run, setting: Setting, chosen: Sequence[str], duration_s: float) -> None:
    """Every workload in each round, on fresh servers: one that lets work wait, and one that refuses soon."""
    settings = (
        f"{SLOTS} slots, {1e3 * STEP_S:g} ms a step, whatever is in it; "
        f"refuses what would wait for more than {_MAX_FORESEEN_S:g} s, but not beside batch work"
    )
    run.take_part(Target(TARGET, "Pileus' server, on the fake engine", __version__, "no model", settings))
    run.results.titles |= WORKLOADS
    patient = [name for name in _GATES if name in chosen]
    impatient = [name for name in WORKLOADS if name in chosen and name not in _GATES and name != PEAK]
    with run.progress("access", run.rounds * (1 + len(impatient) + len(patient))) as step:
        for number in range(1, run.rounds + 1):
            peak_tokens_per_s = 0.0
            for config, names in ((_DEPLOYMENT, [PEAK, *patient]), (_IMPATIENT, impatient)):
                house = await _open(setting, config, peak_tokens_per_s)
                with on_cores(OTHER_CORES):
                    await _warm_up(house)
                    for name in names:
                        step(f"{WORKLOADS[name]}, round {number}")
                        seed = f"{run.results.date}/{name}/{number}"  # so that no two rounds are of the same arrivals
                        figures = await _measure(house, name, duration_s, seed)
                        if name == PEAK:
                            peak_tokens_per_s = figures["tokens_per_s"]
                            house = replace(house, peak_tokens_per_s=peak_tokens_per_s)
                        if name in chosen:
                            run.keep(SUITE, name, TARGET, number, figures)
                setting.family.close()


async def _open(setting: Setting, config: str, peak_tokens_per_s: float) -> House:
    home = make_home(setting.family, setting.cache, config)
    server = await serve(setting.family, home, setting.logs / "pileus-access.log", cores=GATEWAY_CORES)
    for pid in server.replica_pids():
        pin(pid, OTHER_CORES)
    keys = {tenant: make_key(home, tenant) for tenant in ("quiet", "noisy", "surge", *"abcd")}
    return House(home, keys, peak_tokens_per_s)


async def _warm_up(house: House) -> None:
    """More than it can do, for a moment: a server that has served nothing does not know how fast it is."""
    per_s = 2 * SLOTS / (TOKENS * STEP_S)
    await _send(house, list(poisson("a", house.request("a"), per_s, _WARM_UP_S, "warm-up")))


async def _measure(house: House, name: str, duration_s: float, seed: str) -> Figures:
    peak = house.peak_per_s

    def flow(tenant: str, per_s: float, for_s: float = duration_s) -> list[Arrival]:
        return list(poisson(tenant, house.request(tenant), per_s, for_s, f"{seed}/{tenant}"))

    if name == PEAK:
        return {"tokens_per_s": await _closed_loop(house, SLOTS + 4, None, duration_s / 2)}
    if name in _LOADS:
        return of_load(await _send(house, flow("quiet", _LOADS[name] * peak)), duration_s, house.peak_tokens_per_s)
    if name == "access-retries":
        return await _surge(house, [one.at_s for one in flow("surge", 5 * _NEAR_PEAK * peak, _SURGE_S)])
    if name in ("access-quiet", "access-noisy"):
        noise = flow("noisy", 20 * _QUIET * peak, 2 * duration_s) if name == "access-noisy" else []
        return latencies((await _send(house, flow("quiet", _QUIET * peak, 2 * duration_s) + noise)).of("quiet"))
    if name == "access-equal":
        sent = await _send(house, [arrival for tenant in "abcd" for arrival in flow(tenant, peak)])
        return {"jain": jain(list(tokens_by_tenant(sent.answers).values()))} | latencies(sent)
    if name == "access-reserved":
        return await _reserved(house, duration_s, seed)
    return await _beside_batch(house, name, duration_s)


async def _surge(house: House, at_s: Sequence[float]) -> Figures:
    """answered_percent: of the calls, each with the two retries that the client makes unless told otherwise."""
    base_url = f"http://127.0.0.1:{house.home.port}/v1"
    calls = await call_openly(base_url, house.keys["surge"], MODEL, _PROMPT, TOKENS, at_s)
    return {
        "requests": float(len(calls)),
        "answered_percent": 100 * sum(call.answered for call in calls) / len(calls),
        "retried_percent": 100 * sum(call.attempts > 1 for call in calls) / len(calls),
        "latency_p99_ms": 1e3 * percentile([call.took_s for call in calls if call.answered], 99),
    }


async def _reserved(house: House, duration_s: float, seed: str) -> Figures:
    rate = _RESERVED * house.peak_tokens_per_s
    keys = house.keys | {"paying": make_key(house.home, "paying", lanes=["continuous"], tokens_per_s=rate)}
    house = replace(house, keys=keys)
    paying = house.request("paying", "priority")
    arrivals = list(poisson("paying", paying, rate / TOKENS, duration_s, f"{seed}/paying"))
    asked = len(arrivals) * TOKENS
    for tenant in "ab":
        request = house.request(tenant)
        arrivals += poisson(tenant, request, 5 * house.peak_per_s, duration_s, f"{seed}/{tenant}")
    sent = (await _send(house, arrivals)).of("paying")
    return {"met_percent": 100 * tokens_by_tenant(sent.answers)["paying"] / asked} | latencies(sent)


async def _beside_batch(house: House, name: str, duration_s: float) -> Figures:
    """Batch work is a closed loop: as much at a time as its gate lets through."""
    concurrency, tier = _GATES[name]
    request = house.request("quiet")
    burst = list(bursts("quiet", request, _INTERACTIVE_BURST, _BURST_EVERY_S, _BURST_EVERY_S / 2, duration_s))
    if not concurrency:
        return latencies(await _send(house, burst))
    batch = asyncio.create_task(_closed_loop(house, concurrency, tier, duration_s))
    return latencies(await _send(house, burst)) | {"batch_tokens_per_s": await batch}


async def _closed_loop(house: House, concurrency: int, tier: str | None, duration_s: float) -> float:
    """Tokens per second while it goes on."""
    connections = await connect(house.endpoint("quiet"), concurrency)
    begun_s = perf_counter()
    try:
        raw = await send_for(connections, house.request("quiet", tier), duration_s)
    finally:
        for connection in connections:
            connection.close()
    return steady_rate([read_stream(one, TOKENS) for one in raw], begun_s, duration_s)


async def _send(house: House, arrivals: Sequence[Arrival]) -> Sent:
    return await send_openly(house.endpoint("quiet"), arrivals, TOKENS)
