"""A replica that loads an adapter is at work, though none of its steps ends."""

import asyncio
from typing import cast

import pytest

from pileus.core.errors import Unavailable
from pileus.core.ports import AdapterSource
from pileus.core.records import Capabilities, Continuation, Credit, EngineRequest, EngineStats, SamplingParams
from pileus.engines.replica import wire
from pileus.engines.replica.client import ReplicaLink
from replicas import RecordingSink

CAPABILITIES = Capabilities(
    model="m", max_context=64, slots=2, kv_blocks=8, block_size=32, continuation=Continuation.CONTINUABLE, vocab_size=9
)


class Wire(asyncio.Transport):
    """What a link writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[wire.Down] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(wire.decode_down(memoryview(data)[4:]))

    def abort(self) -> None: ...


def connected() -> tuple[ReplicaLink, Wire]:
    link, transport = ReplicaLink("d/0", 1), Wire()
    link.connection_made(transport)
    say(link, wire.Hello(wire.PROTOCOL, 1, "d/0", 0, CAPABILITIES, Credit(2, 8)))
    return link, transport


def say(link: ReplicaLink, frame: wire.Up) -> None:
    data = wire.pack(frame)
    link.get_buffer(len(data))[: len(data)] = data
    link.buffer_updated(len(data))


@pytest.mark.parametrize(
    ("stats", "works"),
    [
        (EngineStats(waiting=1, loading=1), True),
        (EngineStats(waiting=1), False),  # it should have begun
        (EngineStats(running=1, loading=1), False),  # a step of others hangs meanwhile
    ],
)
async def test_a_load_counts_as_work_while_nothing_runs(stats: EngineStats, works: bool) -> None:
    link, _ = connected()
    link.submit(EngineRequest(0, (1,), SamplingParams(max_tokens=1, seed=1)), RecordingSink())
    link.stepped_s = 0.0
    say(link, wire.Stats(1, stats))
    assert (link.stepped_s == link.heard_s) == works


async def test_what_adapt_asks_for_is_answered_by_its_number_or_lost_with_the_replica() -> None:
    link, transport = connected()
    first = asyncio.ensure_future(link.adapt([AdapterSource("a@1", "/a")]))
    second = asyncio.ensure_future(link.adapt([], ["a@1"]))
    await asyncio.sleep(0)
    assert transport.written == [
        wire.Adapter(1, (AdapterSource("a@1", "/a"),), ()),
        wire.Adapter(2, (), ("a@1",)),
    ]
    say(link, wire.Adapted(1, 2, ()))
    say(link, wire.Adapted(1, 1, (("a@1", "too wide"),)))
    assert await second == {}
    assert await first == {"a@1": "too wide"}
    third = asyncio.ensure_future(link.adapt([AdapterSource("b@1", "/b")]))
    await asyncio.sleep(0)
    link.connection_lost(cast(Exception, None))
    with pytest.raises(Unavailable):
        await third
    with pytest.raises(Unavailable):
        await link.adapt([])
