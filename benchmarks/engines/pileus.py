"""Ours: `pileus serve` with the native engine, as anyone would start it."""

from benchmarks.client import Endpoint
from benchmarks.engines import Engine, Setting
from benchmarks.engines.http import HttpEngine
from benchmarks.pileus_server import MODEL, Server, make_home, serve
from benchmarks.results import Target
from pileus import __version__

_NAME = "bench"


async def open_pileus(setting: Setting) -> tuple[Engine, Server]:
    """The engine, and the server behind it for a look inside."""
    deployment = f'[[deployment]]\nname = "{_NAME}"\nmodel = "{MODEL}"\n'
    server = await serve(
        setting.family, make_home(setting.family, setting.cache, deployment), setting.logs / "pileus.log"
    )
    target = Target(
        "pileus",
        "Pileus, over HTTP",
        __version__,
        "weights of the GGUF (4 bit) as OpenVINO IR, arithmetic as OpenVINO chooses for this CPU, KV cache u8",
        "its defaults: 64 sequences, 256 tokens per step, prefix caching on, KV 1 GiB",
    )
    engine = HttpEngine(
        target, server.process, Endpoint(server.home.port, "/v1/completions", key=server.home.key), _NAME
    )
    await engine.wait_until_ready(60)
    return engine, server
