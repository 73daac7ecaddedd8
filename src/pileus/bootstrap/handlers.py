"""The kinds of jobs: what the owner must know of each, and how a worker process opens its handler."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pileus.core.clock import SystemClock

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.core.records import Principal
    from pileus.jobs.handler import Handler, Kind

Opener = Callable[["Settings", Path, AsyncExitStack], "Awaitable[Handler]"]


def kinds(settings: "Settings") -> "list[Kind]":
    """All that this Pileus has."""
    from pileus.batch.service import batch_kind

    return [batch_kind(settings.batches)]


async def open_handler(kind: str, settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> "Handler":
    """What runs jobs of that kind in this process. `scheduling` is the owner's socket for requests; what the handler
    stands on closes with the stack."""
    return await _OPENERS[kind](settings, scheduling, stack)


async def _open_batch(settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> "Handler":
    from pileus.api.openai.single import line_endpoints
    from pileus.batch.handler import BatchHandler, Workplace
    from pileus.bootstrap.contents import open_blobs
    from pileus.bootstrap.member import join

    member = await join(settings, scheduling)
    stack.push_async_callback(member.owner.close)
    directory = member.owner.directory

    def principal(key_id: str) -> "Principal | None":
        entry = member.ring.get(key_id)
        return None if entry is None else entry.principal

    return BatchHandler(
        Workplace(
            settings=settings.batches,
            max_line_bytes=settings.server.max_body_bytes,
            endpoints=line_endpoints(member.pipeline, directory, settings.limits),
            blobs=open_blobs(settings),
            directory=directory,
            principal=principal,
            clock=SystemClock(),
        )
    )


_OPENERS: Mapping[str, Opener] = {"batch": _open_batch}
