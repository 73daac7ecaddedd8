"""Which adapters there are, and which of them are in the graph's slots.

Any number may be known; they stay on disk. One that a request asks for is loaded into a slot by a thread of its own,
while others run; the one that was used least recently makes room, if nothing that runs uses it.
"""

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from pileus.core.errors import ModelRefused
from pileus.core.ports import AdapterReader, AdapterSource
from pileus.engines.native.adapted import AdaptedGraph, Bank, rank_of_bank
from pileus.engines.native.projections import Place
from pileus.engines.native.tiles import moves

log = structlog.get_logger(__name__)


class Foundry(Protocol):
    """Makes graphs with room for adapters; called from the thread that loads."""

    def projections(self) -> Mapping[Place, tuple[int, int]]:
        """What an adapter can change, and what each takes and gives."""
        ...

    def adapted(self, places: frozenset[Place]) -> AdaptedGraph: ...

    def bank(self, slots: int, rank: int, places: Collection[Place]) -> Bank: ...


class Loaded:
    """What the thread made of one wish."""

    __slots__ = ("adapter", "bank", "error", "graph", "slot")

    def __init__(
        self, adapter: str, slot: int, graph: AdaptedGraph | None = None, bank: Bank | None = None, error: str = ""
    ) -> None:
        self.adapter = adapter
        self.slot = slot
        self.graph = graph
        self.bank = bank
        self.error = error


class Shelf:
    """`register` and `forget` are anybody's, the rest is the engine thread's. `on_loaded` is called by the thread that
    loads: then `take` has something."""

    def __init__(
        self, foundry: Foundry, reader: AdapterReader, *, slots: int, most_rank: int, on_loaded: Callable[[], None]
    ) -> None:
        self._foundry = foundry
        self._reader = reader
        self._most_rank = most_rank
        self._on_loaded = on_loaded
        self._known: dict[str, Path] = {}
        self._hot: OrderedDict[str, int] = OrderedDict()  # its slot; the least recently used first
        self._loading: dict[str, int] = {}
        self._free = list(range(slots - 1, -1, -1))
        self._slots = slots
        self._wishes: queue.SimpleQueue[tuple[str, Path, int]] = queue.SimpleQueue()
        self._loaded: deque[Loaded] = deque()
        self._thread: threading.Thread | None = None
        self._graph: AdaptedGraph | None = None  # the loading thread's
        self._bank: Bank | None = None

    # --- from any thread ------------------------------------------------------------------------------------------

    def register(self, source: AdapterSource) -> None:
        """Know it from now on. Raises `ModelRefused` for one that does not fit the model."""
        self._check(source)
        self._known[source.id] = Path(source.path)

    def forget(self, adapter: str) -> None:
        """What runs with it goes on."""
        self._known.pop(adapter, None)

    # --- from the engine's thread ---------------------------------------------------------------------------------

    def knows(self, adapter: str) -> bool:
        return adapter in self._known or adapter in self._hot

    def slot(self, adapter: str) -> int:
        """Of one that is in the graph; it counts as used."""
        self._hot.move_to_end(adapter)
        return self._hot[adapter]

    def ready(self, adapter: str, kept: Collection[str]) -> bool:
        """Whether it is in the graph. If not, it is loaded as soon as there is a slot; those in `kept` keep theirs."""
        if adapter in self._hot:
            return True
        if adapter in self._loading or adapter not in self._known:
            return False
        if (slot := self._take_slot(kept)) is not None:
            self._loading[adapter] = slot
            self._start()
            self._wishes.put((adapter, self._known[adapter], slot))
        return False

    def take(self) -> list[Loaded]:
        """What was loaded since the last call, in order, and what could not be."""
        taken = []
        while self._loaded:
            loaded = self._loaded.popleft()
            del self._loading[loaded.adapter]
            if loaded.error:
                self._free.append(loaded.slot)
            else:
                self._hot[loaded.adapter] = loaded.slot
            taken.append(loaded)
        return taken

    def draw_together(self, adapters: Collection[str]) -> list[tuple[int, int]]:
        """Slots to be swapped at once, so that these adapters lie side by side; none while something is loaded, which
        writes into slots."""
        if self._loading or not adapters:
            return []
        pairs = moves([self._hot[adapter] for adapter in adapters])
        swapped = dict(pairs) | {other: one for one, other in pairs}
        if swapped:
            for adapter, slot in self._hot.items():
                self._hot[adapter] = swapped.get(slot, slot)
            self._free = [swapped.get(slot, slot) for slot in self._free]
        return pairs

    @property
    def loading(self) -> int:
        return len(self._loading)

    def _take_slot(self, kept: Collection[str]) -> int | None:
        if self._free:
            self._free.sort(reverse=True)
            return self._free.pop()  # the lowest, so that they lie side by side
        oldest = next((adapter for adapter in self._hot if adapter not in kept), None)
        return None if oldest is None else self._hot.pop(oldest)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="adapter-loader", daemon=True)
            self._thread.start()

    # --- the thread "adapter-loader" ------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            adapter, path, slot = self._wishes.get()
            try:
                loaded = self._load(adapter, path, slot)
            except ModelRefused as error:
                loaded = Loaded(adapter, slot, error=error.message)
            except Exception as error:  # this thread's edge: without it, no adapter would ever be loaded again
                log.exception("adapter_not_loaded", adapter=adapter)
                loaded = Loaded(adapter, slot, error=f"the adapter cannot be loaded ({type(error).__name__})")
            self._loaded.append(loaded)
            self._on_loaded()

    def _load(self, adapter: str, path: Path, slot: int) -> Loaded:
        weights: Any = self._reader.weights(path)
        places = frozenset(weights.changes)
        rank = rank_of_bank(weights.rank)
        if self._graph is None or not places <= self._graph.places:
            everything = places | (self._graph.places if self._graph else frozenset())
            self._graph = self._foundry.adapted(everything)
        if self._bank is None:
            self._bank = self._foundry.bank(self._slots, rank, self._graph.places)
        elif rank > self._bank.rank or not self._graph.places <= self._bank.places.keys():
            fresh = self._foundry.bank(0, rank, self._graph.places).places
            self._bank = self._bank.grown(rank, fresh)
        self._bank.write(slot, weights.changes)
        log.info("adapter_loaded", adapter=adapter, slot=slot, rank=weights.rank)
        return Loaded(adapter, slot, self._graph, self._bank)

    def _check(self, source: AdapterSource) -> None:
        """Raises `ModelRefused`, naming the projection that does not fit."""
        there = self._foundry.projections()
        for place, (width, rank, out) in self._reader.shapes(Path(source.path)).items():
            where = f"layers.{place[0]}.{place[1]}"
            if place not in there:
                raise ModelRefused(f"{source.id} changes {where}, which this model does not have")
            if there[place] != (width, out):
                has, wants = "{} x {}".format(*there[place]), f"{width} x {out}"
                raise ModelRefused(f"{source.id} does not fit: {where} is {has}, the adapter's is {wants}")
            if rank > self._most_rank:
                raise ModelRefused(f"{source.id} has rank {rank}; the option adapter_rank allows {self._most_rank}")
