"""Batches: what is left of the engine's own maximum, and what running lines with the same beginning together saves."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
from msgspec.structs import replace

from benchmarks import batch_lines, lone_engine
from benchmarks.batch_lines import Load
from benchmarks.engines import Setting
from benchmarks.lone_engine import LoneEngine, Order
from benchmarks.pileus_server import MODEL, Server, make_home, pull, serve
from benchmarks.processes import Family, StartError
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__
from pileus.batch.order import prefix_key, running_order

SUITE = "batch"
PLAIN, SHARED = "batch-plain", "batch-shared"
ALONE, ORDERED, GIVEN = "lone-engine", "pileus-batch", "pileus-batch-as-given"
LOADS = {
    PLAIN: Load("192 lines of nothing in common, about 110 tokens in / 64 out", 192, 1, 0, 40, 64),
    SHARED: Load(
        "256 lines, 32 beginnings of about 500 tokens, each shared by 8, in random order / 16 out", 32, 8, 240, 8, 16
    ),
}
_WARM_UP = Load("warm-up", 16, 1, 0, 40, 16)
_OPTIONS: dict[str, Any] = {"max_sequences": 32, "kv_bytes": 160 << 20}
_AS_GIVEN = ", lines in the order as given"
_LOOK_S = 0.25  # each look takes processor time from the engine
_CONFIG = """
[batches]
reorder = {reorder}

[[deployment]]
name = "model"
model = "{model}"
options = {{ max_sequences = {max_sequences}, kv_bytes = {kv_bytes} }}
"""


async def measure(run: Run, setting: Setting, chosen: Sequence[str], *, quick: bool) -> None:
    """In turns, round by round, and with new processes in each: one start is up to a tenth faster than the next, as
    long as it lives. Who waits is paused, or not there."""
    model = pull(setting.cache, run.say).artefact
    loads = {name: _shorter(load) if quick else load for name, load in LOADS.items() if name in chosen}
    run.results.titles |= {name: load.title for name, load in loads.items()}
    title = "our engine by itself, in-process"
    run.take_part(Target(ALONE, title, __version__, "as in the server", str(_OPTIONS)))
    for target in (ORDERED, GIVEN) if SHARED in loads else (ORDERED,):
        title = "a batch, from its creation to its completion" + ("" if target == ORDERED else _AS_GIVEN)
        settings = f"reorder {str(target == ORDERED).lower()}, {_OPTIONS}"
        run.take_part(Target(target, title, __version__, "default", settings))
    with run.progress(SUITE, run.rounds * sum(3 if name == SHARED else 2 for name in loads)) as step:
        for number in range(1, run.rounds + 1):
            await _round(run, setting, model, loads, number, step)


async def _round(
    run: Run, setting: Setting, model: Path, loads: Mapping[str, Load], number: int, step: Callable[[str], None]
) -> None:
    with Family() as family:
        ours = replace(setting, family=family)
        alone = await _start_alone(ours, model)
        server = await _open(ours, ORDERED)
        for name, load in loads.items():
            asked = batch_lines.prompts(load, number)
            step(f"{load.title}, round {number}: {ALONE}")
            await _keep_alone(run, name, load, number, asked, alone)
            step(f"{load.title}, round {number}: {ORDERED}")
            await _keep_batch(run, name, load, number, asked, ORDERED, server)
    if SHARED in loads:
        with Family() as family:
            server, load = await _open(replace(setting, family=family), GIVEN), loads[SHARED]
            step(f"{load.title}, round {number}: {GIVEN}")
            await _keep_batch(run, SHARED, load, number, batch_lines.prompts(load, number), GIVEN, server)


async def _start_alone(setting: Setting, model: Path) -> LoneEngine:
    alone = lone_engine.start(setting, model, _OPTIONS, setting.logs / f"{ALONE}.log")
    await alone.seconds(Order(batch_lines.prompts(_WARM_UP, 0), _WARM_UP.output_tokens))
    alone.process.pause()
    return alone


async def _keep_alone(run: Run, name: str, load: Load, number: int, asked: list[str], alone: LoneEngine) -> None:
    """In the order in which a batch has them run: what is compared is all that a batch is besides."""
    keys = [prefix_key(f"user\n{prompt}\n") for prompt in asked]
    ordered = [asked[place] for place in running_order([0] * len(keys), keys)]
    alone.process.resume()
    try:
        seconds = await alone.seconds(Order(ordered, load.output_tokens))
    finally:
        alone.process.pause()
    run.keep(SUITE, name, ALONE, number, _figures(load, seconds))


async def _keep_batch(
    run: Run, name: str, load: Load, number: int, asked: list[str], target: str, server: Server
) -> None:
    server.process.resume()
    try:
        seconds = await run_batch(server, b"".join(batch_lines.lines("model", asked, load.output_tokens)))
    finally:
        server.process.pause()
    run.keep(SUITE, name, target, number, _figures(load, seconds))


def _figures(load: Load, seconds: float) -> dict[str, float]:
    return {"tokens_per_s": load.lines * load.output_tokens / seconds, "lines_per_s": load.lines / seconds}


async def _open(setting: Setting, target: str) -> Server:
    config = _CONFIG.format(reorder=str(target == ORDERED).lower(), model=MODEL, **_OPTIONS)
    home = make_home(setting.family, setting.cache, config)
    server = await serve(setting.family, home, setting.logs / f"{target}.log")
    warm_up = batch_lines.lines("model", batch_lines.prompts(_WARM_UP, 0), _WARM_UP.output_tokens)
    await run_batch(server, b"".join(warm_up))  # now it has a worker, too
    server.process.pause()
    return server


async def run_batch(server: Server, content: bytes) -> float:
    """Seconds from the batch's creation to its completion; the upload is not counted. Raises `StartError` where a
    line failed."""
    base = f"http://127.0.0.1:{server.home.port}/v1"
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {server.home.key}"}, timeout=60) as client:
        upload = await client.post(
            f"{base}/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", content, "application/jsonl")}
        )
        wish = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": upload.json()["id"]}
        began = perf_counter()
        batch = (await client.post(f"{base}/batches", json=wish)).json()
        while batch["status"] not in ("completed", "failed", "expired", "cancelled"):
            await asyncio.sleep(_LOOK_S)
            batch = (await client.get(f"{base}/batches/{batch['id']}")).json()
        seconds = perf_counter() - began
    if batch["status"] != "completed" or batch["request_counts"]["failed"]:
        raise StartError(f"a batch ended so: {batch}")
    return seconds


def _shorter(load: Load) -> Load:
    return replace(load, title=f"{load.title} (quick: an eighth)", groups=load.groups // 8)
