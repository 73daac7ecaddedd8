"""Which adapters each deployment's replicas shall have, and that they have them.

A replica is equipped before it takes its first request, and told of each change from then on. What is said to it is
done in its order: so it has what the book says, whenever it came.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

import structlog

from pileus.core.errors import Unavailable
from pileus.core.ports import AdapterSource
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.records import ServedAdapter

_AT_ONCE = 4096  # adapters in one frame

log = structlog.get_logger(__name__)


class AdapterBook:
    """Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._wanted: defaultdict[str, dict[str, AdapterSource]] = defaultdict(dict)  # by deployment and id
        self._links: defaultdict[str, set[ReplicaLink]] = defaultdict(set)

    def expect(self, deployment: str, adapters: Iterable[ServedAdapter]) -> None:
        """What its replicas shall have from their start on; tells none that runs."""
        self._wanted[deployment].update({each.id: AdapterSource(each.id, each.path) for each in adapters})

    async def equip(self, deployment: str, link: ReplicaLink) -> None:
        """Return when a new replica has what it shall have. What it refuses is logged, and its requests will be
        refused by name: it is no reason to be without a replica. Raises `Unavailable` when it is lost."""
        self._links[deployment].add(link)
        link.lost.add_done_callback(lambda _: self._links[deployment].discard(link))
        refused = await _load(link, tuple(self._wanted[deployment].values()))
        for adapter, reason in refused.items():
            log.error("adapter_refused", replica=link.replica, adapter=adapter, reason=reason)

    async def add(self, deployment: str, adapters: Iterable[ServedAdapter]) -> dict[str, str]:
        """Have all its replicas load them. Returns why those are refused that are, by id; no replica keeps these."""
        sources = tuple(AdapterSource(each.id, each.path) for each in adapters)
        self._wanted[deployment].update({source.id: source for source in sources})
        answers = await asyncio.gather(*(_load_or_lose(link, sources) for link in tuple(self._links[deployment])))
        refused = {adapter: reason for answer in answers for adapter, reason in answer.items()}
        await self.remove(deployment, refused)
        return refused

    async def remove(self, deployment: str, adapters: Iterable[str]) -> None:
        """Have no replica take requests for these any more, by their ids."""
        gone = tuple(adapters)
        for adapter in gone:
            self._wanted[deployment].pop(adapter, None)
        if gone:
            await asyncio.gather(*(_unload_or_lose(link, gone) for link in tuple(self._links[deployment])))

    def wanted(self, deployment: str) -> Mapping[str, AdapterSource]:
        """By id."""
        return self._wanted[deployment]


async def _load(link: ReplicaLink, sources: tuple[AdapterSource, ...]) -> dict[str, str]:
    refused: dict[str, str] = {}
    for start in range(0, len(sources), _AT_ONCE):
        refused |= await link.adapt(sources[start : start + _AT_ONCE])
    return refused


async def _load_or_lose(link: ReplicaLink, sources: tuple[AdapterSource, ...]) -> dict[str, str]:
    """A replica that is lost meanwhile refuses nothing: its successor is equipped anew."""
    try:
        return await _load(link, sources)
    except Unavailable:
        return {}


async def _unload_or_lose(link: ReplicaLink, adapters: tuple[str, ...]) -> None:
    try:
        await link.adapt((), adapters)
    except Unavailable:
        return
