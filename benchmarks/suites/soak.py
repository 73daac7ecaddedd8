"""Very many short requests: whether memory, slots and the bill stay as they should."""

import json
import urllib.request

from benchmarks.client import Endpoint
from benchmarks.engines import Setting
from benchmarks.pileus_server import Home, Server, make_home, make_key, serve
from benchmarks.processes import rss_mib
from benchmarks.results import Target
from benchmarks.run import Run
from benchmarks.sparing import Task
from benchmarks.suites.spread import load
from pileus import __version__

SUITE = "soak"
TARGET = "gateways-2"
_CONNECTIONS = 64
_SLICE_S = 10.0
_WARM_UP = 0.05  # of the requests
_PROMPT = "A question."
_CONFIG = """
[server]
gateways = 2

[[deployment]]
name = "instant"
model = "fake"
engine = "fake"
replicas = 2
options = { slots = 256, kv_blocks = 65536 }
"""


async def measure(run: Run, setting: Setting, requests: int) -> None:
    """Until so many were answered. Raises `StartError` where one is not."""
    home = make_home(setting.family, setting.cache, _CONFIG)
    server = await serve(setting.family, home, setting.logs / "soak.log")
    key = make_key(home, "soak")
    body = {"model": "instant", "prompt": _PROMPT, "max_tokens": 1, "stream": True, "ignore_eos": True}
    task = Task(home.port, [Endpoint(home.port, "/v1/completions", key=key).request(body)], _CONNECTIONS, 0.0, _SLICE_S)
    run.take_part(
        Target(TARGET, "2 gateway processes and the one that schedules", __version__, "no model", "fake engine")
    )
    run.results.titles[SUITE] = f"{requests:,} requests of one token"
    answered, seconds, before_mib = 0, 0.0, 0.0
    with run.progress(SUITE, -(-requests // 25_000)) as step:
        while answered < requests:
            step(f"{answered:,} requests answered")
            tally = await load(task)
            answered += tally.whole
            seconds += tally.seconds
            if not before_mib and answered >= _WARM_UP * requests:
                before_mib = _rss_mib(server)
    after_mib = _rss_mib(server)
    run.keep(
        SUITE,
        SUITE,
        TARGET,
        1,
        {
            "requests": answered,
            "requests_per_s": answered / seconds,
            "rss_before_mib": before_mib,
            "rss_after_mib": after_mib,
            "growth_percent": 100 * (after_mib / before_mib - 1),
            "misbilled_tokens": abs(answered * (len(_PROMPT) + 1) - _billed_tokens(home)),
            "left_running": _left(server),
        },
    )


def _rss_mib(server: Server) -> float:
    """Of every process of the server."""
    return sum(rss_mib(pid) for pid in server.process.tree())


def _billed_tokens(home: Home) -> float:
    [key] = [key for key in _get(home, "keys")["data"] if key["name"] == "soak"]
    return float(key["used_tokens"])


def _left(server: Server) -> float:
    """Requests that wait or run, and KV blocks that are used, when all have been answered."""
    deployments = server.status()["deployments"]
    replicas = [replica for deployment in deployments for replica in deployment["replicas"]]
    waiting = sum(deployment["waiting"] for deployment in deployments)
    return float(waiting + sum(replica["running"] + replica["kv_blocks_used"] for replica in replicas))


def _get(home: Home, path: str) -> dict[str, list[dict[str, object]]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{home.port}/admin/v1/{path}", headers={"authorization": f"Bearer {home.key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, list[dict[str, object]]] = json.load(answer)
    return found
