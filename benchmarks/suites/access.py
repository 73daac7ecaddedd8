"""Many people, few replicas: overload, noisy neighbours, reservations, and batch work beside interactive work.

On the fake engine, whose steps take the time that they are told to: what is measured is who gets which slot when.
"""

import asyncio
import json
import urllib.request
from collections.abc import Sequence

from msgspec import Struct

from benchmarks.answers import Refused, Timeline, read_stream
from benchmarks.client import Endpoint, connect, send_for
from benchmarks.engines import Setting
from benchmarks.figures import Figures, percentile
from benchmarks.gateways import GATEWAY_CORES, OTHER_CORES
from benchmarks.open_loop import Answered, Arrival, bursts, poisson, send_openly
from benchmarks.pileus_server import Home, make_home, serve
from benchmarks.processes import on_cores, pin
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__

SUITE = "access"
TARGET = "pileus-access"
TOKENS = 64
SLOTS = 32
STEP_S = 0.02
_PATH = "/v1/completions"
_NEAR_PEAK = 0.8  # what 1x means
_INTERACTIVE_BURST, _BURST_EVERY_S = 8, 2.0
_RESERVED = 0.3  # of the peak

# How batch work is let through: so many at a time, and in which tier.
_GATES: dict[str, tuple[int, str | None]] = {
    "access-alone": (0, None),
    "access-ungated": (4 * SLOTS, None),
    "access-capped": (8, None),
    "access-lane": (4 * SLOTS, "flex"),
}

_DEPLOYMENT = f"""
[[deployment]]
name = "access"
model = "fake"
engine = "fake"
options = {{ slots = {SLOTS}, kv_blocks = 65536, step_s = {STEP_S}, prefill_s_per_token = 0.00005 }}
"""
# Where load may be refused, it is as soon as it would wait for more than a few steps.
_IMPATIENT = f"[queue]\nmax_foreseen_s = 0.1\n{_DEPLOYMENT}"

WORKLOADS = {
    "access-1x": "arrivals at 1x: 80% of the measured peak",
    "access-5x": "arrivals at 5x",
    "access-10x": "arrivals at 10x",
    "access-quiet": "a quiet tenant alone: a tenth of the peak",
    "access-noisy": "the same tenant beside one that sends twenty times as much",
    "access-equal": "four tenants that each ask for all of the peak",
    "access-reserved": "a tenant with 30% of the peak reserved, beside two that each send five times the peak",
    "access-alone": "interactive bursts of 8 every 2 s, alone",
    "access-ungated": "the same beside batch work that is sent as if it were interactive",
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
            "model": "access",
            "prompt": "A question of ordinary length, as many people ask it. " * 4,
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
    """Every workload in each round, on fresh servers: one that refuses soon, and one that lets work wait."""
    settings = f"{SLOTS} slots, {1e3 * STEP_S:g} ms a step; refuses what would wait for more than 0.1 s, but not batch"
    run.take_part(Target(TARGET, "Pileus' server, on the fake engine", __version__, "no model", settings))
    run.results.titles |= WORKLOADS
    impatient = [name for name in WORKLOADS if name in chosen and name not in _GATES]
    patient = [name for name in _GATES if name in chosen]
    with run.progress("access", run.rounds * (len(impatient) + len(patient))) as step:
        for number in range(1, run.rounds + 1):
            for config, names in ((_IMPATIENT, impatient), (_DEPLOYMENT, patient)):
                house = await _open(setting, config)
                with on_cores(OTHER_CORES):
                    house = await _with_peak(house, duration_s)
                    for name in names:
                        step(f"{WORKLOADS[name]}, round {number}")
                        run.keep(SUITE, name, TARGET, number, await _measure(house, name, duration_s, number))
                setting.family.close()


async def _open(setting: Setting, config: str) -> House:
    home = make_home(setting.family, setting.cache, config)
    server = await serve(setting.family, home, setting.logs / "pileus-access.log", cores=GATEWAY_CORES)
    for pid in server.replica_pids():
        pin(pid, OTHER_CORES)
    return House(home, {tenant: _key(home, tenant) for tenant in ("quiet", "noisy", *"abcd")})


def _key(home: Home, tenant: str, **rights: object) -> str:
    wish = {"name": tenant, "tenant": tenant, **rights}
    request = urllib.request.Request(
        f"http://127.0.0.1:{home.port}/admin/v1/keys",
        json.dumps(wish).encode(),
        {"authorization": f"Bearer {home.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["secret"])


async def _with_peak(house: House, duration_s: float) -> House:
    """A closed loop that keeps every slot busy."""
    connections = await connect(house.endpoint("quiet"), SLOTS + 4)
    try:
        raw = await send_for(connections, house.request("quiet"), duration_s)
    finally:
        for connection in connections:
            connection.close()
    lines = [read_stream(one, TOKENS) for one in raw]
    return House(house.home, house.keys, _rate(lines))


async def _measure(house: House, name: str, duration_s: float, number: int) -> Figures:
    peak, seed = house.peak_per_s, f"{name}/{number}"

    def flow(tenant: str, per_s: float, tier: str | None = None) -> list[Arrival]:
        return list(poisson(tenant, house.request(tenant, tier), per_s, duration_s, f"{seed}/{tenant}"))

    if name in ("access-1x", "access-5x", "access-10x"):
        times = int(name.removeprefix("access-").removesuffix("x"))
        answers = await _send(house, flow("quiet", times * _NEAR_PEAK * peak))
        return _of_load(answers, house)
    if name in ("access-quiet", "access-noisy"):
        noise = flow("noisy", 20 * 0.1 * peak) if name == "access-noisy" else []
        answers = await _send(house, flow("quiet", 0.1 * peak) + noise)
        return _latencies([one for one in answers if one.who == "quiet"])
    if name == "access-equal":
        answers = await _send(house, [arrival for tenant in "abcd" for arrival in flow(tenant, peak)])
        return {"jain": jain(list(_tokens_by_tenant(answers).values()))}
    if name == "access-reserved":
        return await _reserved(house, duration_s, seed)
    return await _beside_batch(house, name, duration_s)


async def _reserved(house: House, duration_s: float, seed: str) -> Figures:
    rate = _RESERVED * house.peak_tokens_per_s
    keys = house.keys | {"paying": _key(house.home, "paying", lanes=["continuous"], tokens_per_s=rate)}
    house = House(house.home, keys, house.peak_tokens_per_s)
    paying = house.request("paying", "priority")
    arrivals = list(poisson("paying", paying, rate / TOKENS, duration_s, f"{seed}/paying"))
    asked = len(arrivals) * TOKENS
    for tenant in "ab":
        request = house.request(tenant)
        arrivals += poisson(tenant, request, 5 * house.peak_per_s, duration_s, f"{seed}/{tenant}")
    answers = await _send(house, arrivals)
    return {"met_percent": 100 * _tokens_by_tenant(answers)["paying"] / asked} | _latencies(
        [one for one in answers if one.who == "paying"]
    )


async def _beside_batch(house: House, name: str, duration_s: float) -> Figures:
    """Batch work is a closed loop: as much at a time as its gate lets through."""
    concurrency, tier = _GATES[name]
    burst = list(bursts("quiet", house.request("quiet"), _INTERACTIVE_BURST, _BURST_EVERY_S, duration_s))
    connections = await connect(house.endpoint("noisy"), concurrency)
    try:
        answers, raw = await asyncio.gather(
            _send(house, burst), send_for(connections, house.request("noisy", tier), duration_s)
        )
    finally:
        for connection in connections:
            connection.close()
    lines = [read_stream(one, TOKENS) for one in raw]
    return _latencies(answers) | ({"batch_tokens_per_s": _rate(lines)} if lines else {})


async def _send(house: House, arrivals: Sequence[Arrival]) -> list[Answered]:
    return await send_openly(house.endpoint("quiet"), arrivals, TOKENS)


def _of_load(answers: Sequence[Answered], house: House) -> Figures:
    """goodput_percent: tokens of whole answers, of the peak. hinted_percent: refusals that say when to come back."""
    lines, refused = _lines(answers), [one.answer for one in answers if isinstance(one.answer, Refused)]
    figures = _latencies(answers) | {
        "goodput_percent": 100 * _rate(lines) / house.peak_tokens_per_s,
        "refused_percent": 100 * len(refused) / len(answers),
    }
    if refused:
        waits = [1e3 * (one.done_s - one.sent_s) for one in refused]
        figures["refusal_p99_ms"] = percentile(waits, 99)
        figures["hinted_percent"] = 100 * sum("retry-after" in one.headers for one in refused) / len(refused)
    return figures


def _latencies(answers: Sequence[Answered]) -> Figures:
    """Of those that were admitted."""
    lines = _lines(answers)
    first = [1e3 * (line.pieces_s[0] - line.sent_s) for line in lines]
    whole = [1e3 * (line.pieces_s[-1] - line.sent_s) for line in lines]
    return {
        "ttft_p50_ms": percentile(first, 50),
        "ttft_p99_ms": percentile(first, 99),
        "latency_p99_ms": percentile(whole, 99),
        "admitted_percent": 100 * len(lines) / len(answers),
    }


def _lines(answers: Sequence[Answered]) -> list[Timeline]:
    return [one.answer for one in answers if isinstance(one.answer, Timeline)]


def _tokens_by_tenant(answers: Sequence[Answered]) -> dict[str, float]:
    tokens = {one.who: 0.0 for one in answers}
    for one in answers:
        if isinstance(one.answer, Timeline):
            tokens[one.who] += one.answer.tokens
    return tokens


def _rate(lines: Sequence[Timeline]) -> float:
    """Tokens per second, from the first request to the last token."""
    begun_s, ended_s = min(line.sent_s for line in lines), max(line.pieces_s[-1] for line in lines)
    return sum(line.tokens for line in lines) / (ended_s - begun_s)


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all have the same, 1/n when one has all (Jain, Chiu and Hawe, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
