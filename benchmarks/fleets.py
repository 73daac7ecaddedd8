"""Four replicas of the fake engine behind one address: Pileus with each of its policies, and other people's routers.

Another's router stands in front of four Pileus servers of one replica each: the same engine behind the same API. All
servers and routers have the first core, the engines' processes and the load generator the second.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.answers import BadAnswer, read_whole
from benchmarks.client import Endpoint, connect
from benchmarks.engines import Setting
from benchmarks.gateways import GATEWAY_CORES, OTHER_CORES
from benchmarks.peers import SMG, VLLM_ROUTER, Environment, environment
from benchmarks.pileus_server import Home, make_home, serve
from benchmarks.processes import Process, StartError, free_port, pin, wait_until_open
from benchmarks.results import Target
from pileus import __version__
from pileus.scheduling.routing import RoutingPolicy

REPLICAS = 4
DEPLOYMENT = "prefix"
PATH = "/v1/completions"
OURS = "pileus-cost"
OPTIONS = "slots = 32, kv_blocks = 2048, step_s = 0.01, prefill_s_per_token = 0.000075"

_TITLES = {
    RoutingPolicy.COST: "Pileus",
    RoutingPolicy.LEAST_LOADED: "Pileus, least loaded",
    RoutingPolicy.PREFIX: "Pileus, prefix only",
    RoutingPolicy.ROUND_ROBIN: "Pileus, round robin",
}


class Fleet(Struct, frozen=True):
    """Something that answers `/v1/completions` with four replicas."""

    target: Target
    endpoint: Endpoint


Opening = Callable[[Setting], Awaitable[Fleet]]


def openings() -> dict[str, Opening]:
    """By target: Pileus with each of its policies, and the others."""
    ours: dict[str, Opening] = {f"pileus-{policy}": _pileus(policy) for policy in RoutingPolicy}
    return ours | {"smg": _open_smg, "vllm-router": _open_vllm_router}


def _config(replicas: int, policy: RoutingPolicy = RoutingPolicy.COST) -> str:
    return f"""
[routing]
policy = "{policy}"

[[deployment]]
name = "{DEPLOYMENT}"
model = "fake"
engine = "fake"
replicas = {replicas}
options = {{ {OPTIONS} }}
"""


def _pileus(policy: RoutingPolicy) -> Opening:
    async def opening(setting: Setting) -> Fleet:
        home = make_home(setting.family, setting.cache, _config(REPLICAS, policy))
        await _serve(setting, home, f"pileus-{policy}")
        settings = f'{REPLICAS} replicas; routing.policy = "{policy}"'
        target = Target(f"pileus-{policy}", _TITLES[policy], __version__, "no model", settings)
        return Fleet(target, Endpoint(home.port, PATH, key=home.key))

    return opening


async def _open_smg(setting: Setting) -> Fleet:
    """SGLang's model gateway, in Rust."""
    peer = environment(SMG, setting.cache, setting.say)
    return await _behind(setting, "smg", "smg", peer, [str(peer.command("smg")), "launch"])


async def _open_vllm_router(setting: Setting) -> Fleet:
    peer = environment(VLLM_ROUTER, setting.cache, setting.say)
    return await _behind(setting, "vllm-router", "vLLM's router", peer, [str(peer.command("vllm-router"))])


async def _behind(setting: Setting, name: str, title: str, peer: Environment, command: Sequence[str]) -> Fleet:
    """A router in front of servers with the same key; its own defaults but for addresses and that key."""
    homes = [make_home(setting.family, setting.cache, _config(1))]
    homes += [_twin(setting, homes[0], number) for number in range(1, REPLICAS)]
    for number, home in enumerate(homes):
        await _serve(setting, home, f"{name}-behind-{number}")
    port = free_port()
    process = setting.family.start(
        [
            *command,
            *("--policy", "cache_aware", "--host", "127.0.0.1", "--port", str(port)),
            *("--prometheus-port", str(free_port()), "--api-key", homes[0].key, "--worker-urls"),
            *(f"http://127.0.0.1:{home.port}" for home in homes),
        ],
        setting.logs / f"{name}.log",
        cores=GATEWAY_CORES,
    )
    endpoint = Endpoint(port, PATH, key=homes[0].key)
    await _answers(process, endpoint)
    settings = f"in front of {REPLICAS} Pileus servers of one replica; policy cache_aware, else its defaults"
    target = Target(name, title, peer.versions(name), "no model", settings)
    return Fleet(target, endpoint)


async def _answers(process: Process, endpoint: Endpoint) -> None:
    """Wait until the router knows a server that answers."""
    await wait_until_open(process, endpoint.port, 60)
    request = endpoint.request({"model": DEPLOYMENT, "prompt": "Who is there?", "max_tokens": 1})
    async with asyncio.timeout(60):
        while True:
            process.check()
            (connection,) = await connect(endpoint, 1)
            raw = await connection.send(request)
            connection.close()
            with suppress(BadAnswer):
                read_whole(raw, 1)
                return
            await asyncio.sleep(0.5)


def _twin(setting: Setting, home: Home, number: int) -> Home:
    """Another server's data folder with the same key in it."""
    data = Path(f"{home.data}-{number}")
    shutil.copytree(home.data, data, symlinks=True)
    setting.family.callback(shutil.rmtree, data)
    return replace(home, data=data, config=data / home.config.name, port=free_port())


async def _serve(setting: Setting, home: Home, name: str) -> None:
    server = await serve(setting.family, home, setting.logs / f"{name}.log", cores=GATEWAY_CORES)
    pids = server.replica_pids()
    if not pids:
        raise StartError(f"{name} has no replicas")
    for pid in pids:
        pin(pid, OTHER_CORES)
