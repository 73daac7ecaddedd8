"""A further gateway process: the owner starts it, by `pileus gateway`."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pileus import __version__
from pileus.bootstrap import memory
from pileus.bootstrap.gateways import GatewaySpec
from pileus.bootstrap.member import expire_keys, join

if TYPE_CHECKING:
    from pileus.config.settings import Settings


def run_gateway() -> None:
    """Reads its `GatewaySpec` from standard input, serves until it is told to end or the owner is gone, and exits."""
    import uvloop

    from pileus.config.settings import Settings
    from pileus.engines.replica.process import die_with_parent
    from pileus.observability import events

    die_with_parent()
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=GatewaySpec)
    settings = Settings.model_validate_json(msgspec.json.encode(spec.settings))
    events.configure(settings.log.level, settings.log.format)
    with socket.socket(fileno=spec.listening) as listening:
        uvloop.run(_serve(settings, spec, listening))


async def _serve(settings: "Settings", spec: GatewaySpec, listening: socket.socket) -> None:
    from pileus.api.app import create_gateway_app
    from pileus.api.server import create_server
    from pileus.api.services import EdgeServices

    member = await join(settings, Path(spec.scheduling))
    owner = member.owner
    services = EdgeServices(
        settings=settings,
        pipeline=member.pipeline,
        directory=owner.directory,
        ring=member.ring,
        refusals=owner,
        refusal_counter=owner,
        version=__version__,
    )
    app = create_gateway_app(services, Path(spec.http))
    server = create_server(app, settings.server)
    serving = asyncio.create_task(server.serve([listening]))

    def stop() -> None:
        server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    owner.lost.add_done_callback(lambda _: stop())
    expiring = asyncio.create_task(expire_keys(member.ring))
    await server.listening.wait()
    memory.settle()
    owner.open(spec.number, os.getpid())
    try:
        await serving
    finally:
        expiring.cancel()
        await app.state.forward.close()
        await owner.close()
