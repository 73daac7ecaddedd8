"""One gateway process against four, on the same cores: what a machine carries, and whether all get the same of it."""

import asyncio
import sys
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from benchmarks.client import Endpoint
from benchmarks.engines import Setting
from benchmarks.figures import Figures
from benchmarks.pileus_server import Home, make_home, make_key, serve
from benchmarks.processes import Process, StartError
from benchmarks.results import Target
from benchmarks.run import Run
from benchmarks.shares import jain
from benchmarks.sparing import Tally, Task
from pileus import __version__

SUITE = "spread"
GATEWAYS = (1, 4)
_PATH = "/v1/completions"
_WARM_UP_S = 2.0
_TENANTS = ("a", "b", "c", "d")

_CONFIG = """
[server]
gateways = {gateways}

[[deployment]]
name = "instant"
model = "fake"
engine = "fake"
options = {{ slots = 4096, kv_blocks = 65536 }}

[[deployment]]
name = "steady"
model = "fake"
engine = "fake"
options = {{ slots = 4096, kv_blocks = 65536, step_s = 0.008 }}

[[deployment]]
name = "narrow"
model = "fake"
engine = "fake"
options = {{ slots = 32, step_s = 0.008 }}
"""


class Load(Struct, frozen=True):
    """A closed loop of streams; with `shared`, in equal parts of four tenants."""

    title: str
    model: str
    connections: int
    tokens: int
    shared: bool = False


LOADS = {
    "spread-requests": Load("256 connections, streamed, 1 token each", "instant", 256, 1),
    "spread-streams": Load("512 streams of 64 tokens, a token each 8 ms: 64,000/s are offered", "steady", 512, 64),
    "spread-fair": Load("four tenants of 64 connections each, over 32 slots", "narrow", 256, 16, shared=True),
}


class House(Struct, frozen=True):
    """A running server with a key for each tenant."""

    name: str
    process: Process
    home: Home
    keys: Mapping[str, str]


def target(gateways: int) -> str:
    return f"gateways-{gateways}"


async def measure(run: Run, setting: Setting, chosen: Sequence[str], duration_s: float) -> None:
    """In turns; the one that waits is paused. Server, engine and load generator have all cores together."""
    houses = [await _open(run, setting, gateways) for gateways in GATEWAYS]
    loads = {name: load for name, load in LOADS.items() if name in chosen}
    run.results.titles |= {name: load.title for name, load in loads.items()}
    with run.progress(SUITE, run.rounds * len(loads) * len(houses)) as step:
        for name, load in loads.items():
            for number in range(1, run.rounds + 1):
                for house in houses:
                    step(f"{load.title}, round {number}: {house.name}")
                    house.process.resume()
                    try:
                        run.keep(SUITE, name, house.name, number, await _measure(house, load, duration_s))
                    finally:
                        house.process.pause()


async def _open(run: Run, setting: Setting, gateways: int) -> House:
    home = make_home(setting.family, setting.cache, _CONFIG.format(gateways=gateways))
    server = await serve(setting.family, home, setting.logs / f"{target(gateways)}.log")
    keys = {tenant: make_key(home, tenant) for tenant in _TENANTS}
    title = "one process" if gateways == 1 else f"{gateways} gateway processes and the one that schedules"
    run.take_part(Target(target(gateways), title, __version__, "no model", "the fake engine"))
    server.process.pause()
    return House(target(gateways), server.process, home, keys)


async def _measure(house: House, load: Load, duration_s: float) -> Figures:
    tenants = _TENANTS if load.shared else _TENANTS[:1]
    tally = await generate(
        Task(
            port=house.home.port,
            requests=[_request(house, tenant, load) for tenant in tenants],
            connections=load.connections,
            warm_up_s=_WARM_UP_S,
            duration_s=duration_s,
        )
    )
    figures = {
        "requests_per_s": sum(tally.answers) / tally.seconds,
        "events_per_s": tally.events / tally.seconds,
        "client_cpu_percent": 100 * tally.cpu_share,
    }
    return figures | ({"jain": jain(tally.answers)} if load.shared else {})


def _request(house: House, tenant: str, load: Load) -> bytes:
    body = {"model": load.model, "prompt": "A question of ordinary length.", "max_tokens": load.tokens, "stream": True}
    return Endpoint(house.home.port, _PATH, key=house.keys[tenant]).request(body | {"ignore_eos": True})


async def generate(task: Task) -> Tally:
    """In a process of its own. Raises `StartError` where the server does not serve."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.sparing"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate(msgspec.json.encode(task))
    if process.returncode:
        raise StartError(error.decode(errors="replace").strip().splitlines()[-1])
    return msgspec.json.decode(out, type=Tally)
