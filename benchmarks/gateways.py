"""Gateways side by side, each pinned to the first core; what stands behind it and the load generator have the second.

`bare` is no gateway at all: the load generator against the instant upstream. It is the ceiling of the arrangement.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from benchmarks.client import Endpoint
from benchmarks.engines import Setting
from benchmarks.peers import LITELLM, environment
from benchmarks.pileus_server import make_home, serve
from benchmarks.processes import Process, free_port, pin, wait_until_open
from benchmarks.results import Target
from pileus import __version__

GATEWAY_CORES, OTHER_CORES = {0}, {1}

_LITELLM_KEY = "sk-benchmarks"

# Deployments of the fake engine, and how long a step of each takes: a token for each of its streams.
INSTANT, STEADY_32, STEADY_256, PACED = "instant", "steady-32", "steady-256", "paced"
STEP_S = {INSTANT: 0.0, STEADY_32: 0.0004, STEADY_256: 0.008, PACED: 0.25}

# Room for every stream of every workload at once, so that nothing ever waits in a queue.
_DEPLOYMENTS = "".join(
    f"""
[[deployment]]
name = "{name}"
model = "fake"
engine = "fake"
options = {{ slots = 4096, kv_blocks = 65536, step_s = {step_s} }}
"""
    for name, step_s in STEP_S.items()
)


class Gateway(Struct, frozen=True):
    """Something that answers `/v1/chat/completions`."""

    target: Target
    processes: tuple[Process, ...]  # all that must be awake for it
    endpoint: Endpoint
    pid: int  # of the gateway's own process
    models: tuple[str, ...] = (INSTANT,)


async def open_pileus(setting: Setting) -> Gateway:
    """The real server with the fake engine: a replica process of its own, which says words as fast as it can."""
    home = make_home(setting.family, setting.cache, _DEPLOYMENTS)
    server = await serve(setting.family, home, setting.logs / "pileus-gateway.log", cores=GATEWAY_CORES)
    for pid in server.replica_pids():
        pin(pid, OTHER_CORES)
    target = Target(
        "pileus-gateway",
        "Pileus' server, on the fake engine",
        __version__,
        "no model",
        "keys, quotas, metrics and usage records as always; the fake engine's process sends one frame per token step",
    )
    endpoint = Endpoint(home.port, "/v1/chat/completions", key=home.key)
    return Gateway(target, (server.process,), endpoint, server.server_pid(), tuple(STEP_S))


async def open_bare(setting: Setting) -> Gateway:
    """The instant upstream by itself."""
    port = free_port()
    process = setting.family.start(
        [sys.executable, "-m", "benchmarks.upstream", str(port)], setting.logs / "upstream.log", cores=OTHER_CORES
    )
    await wait_until_open(process, port, 20)
    target = Target(
        "bare", "no gateway at all", "", "no model", "the load generator on the instant upstream: the ceiling"
    )
    return Gateway(target, (process,), Endpoint(port, "/v1/chat/completions"), process.pid)


async def open_litellm(setting: Setting, upstream: Gateway) -> Gateway:
    """LiteLLM's proxy in front of the instant upstream: one worker, no database, one key, logging off."""
    peer = environment(LITELLM, setting.cache, setting.say)
    port = free_port()
    config = setting.logs / "litellm.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f"model_list:\n  - model_name: {INSTANT}\n    litellm_params:\n      model: openai/fake\n"
        f"      api_base: http://127.0.0.1:{upstream.endpoint.port}/v1\n      api_key: none\n"
    )
    setting.say("starting LiteLLM")
    process = setting.family.start(
        [
            str(peer.command("litellm")),
            *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
            *("--num_workers", "1", "--telemetry", "False"),
        ],
        setting.logs / "litellm.log",
        environ=_litellm_environ(peer.folder),
        cores=GATEWAY_CORES,
    )
    await wait_until_open(process, port, 300)
    target = Target(
        "litellm",
        "LiteLLM proxy, on an instant upstream",
        peer.versions("litellm"),
        "no model",
        "one worker, no database, its master key, production mode, logging of errors only",
    )
    endpoint = Endpoint(port, "/v1/chat/completions", key=_LITELLM_KEY)
    return Gateway(target, (process, *upstream.processes), endpoint, process.pid)


def _litellm_environ(folder: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        "LITELLM_MASTER_KEY": _LITELLM_KEY,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_DOCS": "True",
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
