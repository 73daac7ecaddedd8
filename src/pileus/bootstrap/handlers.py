"""The kinds of jobs: what the owner must know of each, and how a worker opens its handler."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.jobs.handler import Handler

Opener = Callable[["Settings", Path, AsyncExitStack], "Awaitable[Handler]"]

_OPENERS: Mapping[str, Opener] = {}


async def open_handler(kind: str, settings: "Settings", scheduling: Path, stack: AsyncExitStack) -> "Handler":
    """What runs jobs of that kind in this process. `scheduling` is the owner's socket for requests; what the handler
    stands on closes with the stack."""
    return await _OPENERS[kind](settings, scheduling, stack)
