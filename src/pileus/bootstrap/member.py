"""What a process has that makes models speak, and is not the owner of the fleet: it asks the owner for each turn."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pileus.bootstrap.tokenizers import load
from pileus.core.clock import SystemClock

if TYPE_CHECKING:
    from pileus.bootstrap.tokenizers import Text
    from pileus.config.settings import Settings
    from pileus.gateway.forwarding.member import OwnerLink
    from pileus.gateway.pipeline import Pipeline
    from pileus.security.ring import KeyRing

_EXPIRE_INTERVAL_S = 1.0


class Member(Struct, frozen=True):
    """A pipeline over the owner's queues, and who may use it."""

    ring: "KeyRing"
    owner: "OwnerLink"
    pipeline: "Pipeline"


async def join(settings: "Settings", scheduling: Path) -> Member:
    """Connect to the owner's socket; return when all is known that it knows. Raises `OSError` where nobody listens."""
    from pileus.gateway.forwarding.member import OwnerLink
    from pileus.gateway.forwarding.scheduler import ForwardingSchedulers
    from pileus.gateway.pipeline import Pipeline
    from pileus.security.pepper import Pepper
    from pileus.security.ring import KeyRing

    clock = SystemClock()
    pepper = Pepper.load(settings.data_dir, may_make=False)
    ring = KeyRing(pepper, clock)
    owner = OwnerLink(ring, clock)
    pipeline = Pipeline(settings.limits, owner.directory, ForwardingSchedulers(owner), pepper.salt, clock)
    tokenizers = Tokenizers()
    owner.on_offered = lambda offer: pipeline.open(offer.info.name, tokenizers.of(offer.info.model, offer.model_path))
    owner.on_withdrawn = pipeline.close
    await owner.connect(scheduling)
    return Member(ring, owner, pipeline)


async def expire_keys(ring: "KeyRing") -> None:
    """Let keys lose their right when their time is over, until cancelled."""
    while True:
        await asyncio.sleep(_EXPIRE_INTERVAL_S)
        ring.expire()


class Tokenizers:
    """Each is loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str | None], Text] = {}

    def of(self, model: str, model_path: str | None) -> "Text":
        """Without a path, a fake model's."""
        if (model, model_path) not in self._loaded:
            self._loaded[model, model_path] = load(model, None if model_path is None else Path(model_path))
        return self._loaded[model, model_path]
