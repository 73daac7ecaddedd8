"""From `make up` to the first streamed token with everything cached, and the memory of the server that then idles."""

import asyncio
from time import perf_counter

from benchmarks.answers import BadAnswer, read_stream
from benchmarks.client import Endpoint, connect, send_each
from benchmarks.engines import Setting
from benchmarks.pileus_server import Home, Server, make_home
from benchmarks.processes import rss_mib
from benchmarks.results import Target
from benchmarks.run import Run
from pileus import __version__

SUITE = "startup"
_NAME = "make-up"
_TOKENS = 8
_RETRY_S = 0.02
_TIMEOUT_S = 120


async def measure(run: Run, setting: Setting) -> None:
    """Each round begins with no process at all; models and the installation are there, as on a second day."""
    run.results.titles[_NAME] = "from `make up`, everything cached, to the first streamed token"
    run.take_part(
        Target("pileus-up", "`make up` with its default settings", __version__, "as Pileus above", "defaults")
    )
    with run.progress("startup", run.rounds) as step:
        for number in range(1, run.rounds + 1):
            step(f"start {number}")
            home = make_home(setting.family, setting.cache, "")
            begun_s = perf_counter()
            arguments = f"ARGS=--port {home.port} --data {home.data} --config {home.config} --no-browser"
            process = setting.family.start(["make", "up", arguments], setting.logs / "up.log")
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    first_s = await _first_token_s(home)
                process.check()
                server = Server(process, home)
                figures = {
                    "first_token_s": first_s - begun_s,
                    "server_rss_mib": rss_mib(server.server_pid()),
                    "replica_rss_mib": sum(map(rss_mib, server.replica_pids())),
                }
                run.keep(SUITE, _NAME, "pileus-up", number, figures)
            finally:
                process.stop()


async def _first_token_s(home: Home) -> float:
    """Ask again and again, as an impatient person would; a refusal while it starts is not an answer."""
    endpoint = Endpoint(home.port, "/v1/chat/completions", key=home.key)
    request = endpoint.request(
        {
            "model": "default",
            "messages": [{"role": "user", "content": "What is a cloud?"}],
            "max_tokens": _TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    while True:
        try:
            connections = await connect(endpoint, 1)
            raw = await send_each(connections, [request])
            connections[0].close()
            return read_stream(raw[0], _TOKENS).pieces_s[0]
        except (OSError, BadAnswer):
            await asyncio.sleep(_RETRY_S)
