"""Very many short requests, and half an hour of another load generator: whether memory, slots and the bill stay as they
should."""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.client import Endpoint
from benchmarks.engines import Setting
from benchmarks.figures import Figures
from benchmarks.peers import GUIDELLM, environment
from benchmarks.pileus_server import Home, Server, get, make_home, make_key, serve
from benchmarks.processes import StartError, rss_mib
from benchmarks.results import Target
from benchmarks.run import Run
from benchmarks.sparing import Task
from benchmarks.suites.spread import generate
from pileus import __version__

SUITE = "soak"
TARGET = "gateways-2"
MANY, LONG = "soak", "soak-guidellm"
_CONNECTIONS = 64
_SLICE_S = 10.0
_WARM_UP = 0.05  # of the requests
_PROMPT = "A question."
_RATE_PER_S, _ANSWER_TOKENS = 20, 32  # of the other generator
_SETTLE_S = 5.0  # for usage rows to be written
_PAGE = 10_000
_CONFIG = """
[server]
gateways = 2

[[deployment]]
name = "soak"
model = "fake"
engine = "fake"
replicas = 2
options = { slots = 256, kv_blocks = 65536 }
"""


async def measure(run: Run, setting: Setting, requests: int, seconds: float) -> None:
    """Each on a fresh server; 0 leaves one out. Raises `StartError` where a request is not answered."""
    run.take_part(
        Target(TARGET, "2 gateway processes and the one that schedules", __version__, "no model", "fake engine")
    )
    if requests:
        run.results.titles[MANY] = f"{requests:,} requests of one token"
        run.keep(SUITE, MANY, TARGET, 1, await _many(run, await _open(setting), requests))
        setting.family.close()
    if not seconds:
        return
    run.results.titles[LONG] = f"{seconds / 60:g} minutes of guidellm, {_RATE_PER_S} requests of 32 tokens per second"
    run.keep(SUITE, LONG, TARGET, 1, await _long(run, setting, await _open(setting), seconds))
    setting.family.close()


async def _open(setting: Setting) -> Server:
    home = make_home(setting.family, setting.cache, _CONFIG)
    return await serve(setting.family, home, setting.logs / "soak.log")


async def _many(run: Run, server: Server, requests: int) -> Figures:
    home = server.home
    key = make_key(home, "soak")
    body = {"model": "soak", "prompt": _PROMPT, "max_tokens": 1, "stream": True, "ignore_eos": True}
    task = Task(home.port, [Endpoint(home.port, "/v1/completions", key=key).request(body)], _CONNECTIONS, 0.0, _SLICE_S)
    answered, seconds, before_mib = 0, 0.0, 0.0
    with run.progress(SUITE, -(-requests // 25_000)) as step:
        while answered < requests:
            step(f"{answered:,} requests answered")
            tally = await generate(task)
            answered += tally.whole
            seconds += tally.seconds
            if not before_mib and answered >= _WARM_UP * requests:
                before_mib = _rss_mib(server)
    misbilled = abs(answered * (len(_PROMPT) + 1) - _billed_tokens(home))
    return {"requests": answered, "requests_per_s": answered / seconds, "misbilled_tokens": misbilled} | _memory(
        server, before_mib
    )


async def _long(run: Run, setting: Setting, server: Server, seconds: float) -> Figures:
    """Figures of a request come from what the generator got, and from the rows that the server wrote of it."""
    told = setting.logs / "guidellm.json"
    generating = asyncio.create_task(asyncio.to_thread(_generate, setting, server.home, seconds, told))
    with run.progress(SUITE, 2) as step:
        step("guidellm, its first tenth")
        await asyncio.wait({generating}, timeout=0.1 * seconds)
        before_mib = _rss_mib(server)
        step("guidellm, the rest")
        await generating
    await asyncio.sleep(_SETTLE_S)
    sent = json.loads(told.read_text())["benchmarks"][0]["requests"]
    total = sum(len(sent[ending]) for ending in ("successful", "errored", "incomplete"))
    rows = _rows(server.home)
    names = {row["request_id"] for row in rows}
    return {
        "requests": total,
        "requests_per_s": len(sent["successful"]) / seconds,
        "errored": len(sent["errored"]),
        "missing_endings": abs(total - len(names)) + len(rows) - len(names),
        "misbilled_tokens": sum(
            abs(row["completion_tokens"] - _ANSWER_TOKENS) for row in rows if row["outcome"] == "length"
        ),
    } | _memory(server, before_mib)


def _generate(setting: Setting, home: Home, seconds: float, told: Path) -> None:
    """guidellm at a constant rate; its results go to `told`. Raises `StartError` with its last words."""
    peer = environment(GUIDELLM, setting.cache, setting.say)
    prompts = told.with_name("prompts.jsonl")
    count = int(2 * seconds * _RATE_PER_S)
    questions = [{"prompt": f"Question {n}?", "output_tokens_count": _ANSWER_TOKENS} for n in range(count)]
    prompts.write_text("".join(json.dumps(each) + "\n" for each in questions))
    address = f"target=http://127.0.0.1:{home.port},model=soak,api_key={home.key},request_format=/v1/completions"
    done = subprocess.run(
        [
            *(str(peer.command("guidellm")), "run", "--backend", f"kind=openai_http,{address}"),
            *("--profile", f"kind=constant,rate={_RATE_PER_S}"),
            *("--constraint", f"kind=max_duration,seconds={seconds:g}"),
            *("--data", f"kind=json_file,path={prompts}", "--output", f"kind=json,path={told}", "--disable-console"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise StartError(f"guidellm: {(done.stderr or done.stdout).strip()[-500:]}")


def _rows(home: Home) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := get(home, f"usage?limit={_PAGE}&after={found[-1]['sequence'] if found else 0}")["data"]:
        found += page
    return found


def _memory(server: Server, before_mib: float) -> Figures:
    after_mib = _rss_mib(server)
    return {
        "rss_before_mib": before_mib,
        "rss_after_mib": after_mib,
        "growth_percent": 100 * (after_mib / before_mib - 1),
        "left_running": _left(server),
    }


def _rss_mib(server: Server) -> float:
    """Of every process of the server."""
    return sum(rss_mib(pid) for pid in server.process.tree())


def _billed_tokens(home: Home) -> float:
    [key] = [key for key in get(home, "keys")["data"] if key["name"] == "soak"]
    return float(key["used_tokens"])


def _left(server: Server) -> float:
    """Requests that wait or run, and KV blocks that are used, when all have been answered."""
    deployments = server.status()["deployments"]
    replicas = [replica for deployment in deployments for replica in deployment["replicas"]]
    waiting = sum(deployment["waiting"] for deployment in deployments)
    return float(waiting + sum(replica["running"] + replica["kv_blocks_used"] for replica in replicas))
