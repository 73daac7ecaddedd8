"""The owner's queues beside a gateway process that the test plays, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pileus.config.settings import Queue
from pileus.core.errors import ModelNotFound, Overloaded, QuotaExceeded, revive
from pileus.core.records import AuditEvent, Lane
from pileus.engines.replica.client import ReplicaLink
from pileus.engines.replica.loans import Loan, Loans
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo
from pileus.gateway.forwarding import wire
from pileus.gateway.forwarding.channel import Channel
from pileus.gateway.forwarding.member import OwnerLink
from pileus.gateway.forwarding.owner import GatewayHub
from pileus.gateway.records import Ending
from pileus.gateway.scheduler import SchedulingOwner
from pileus.observability.figures import RequestFigures
from pileus.observability.metrics import Metrics
from pileus.scheduling.routing import RoutingPolicy
from pileus.scheduling.traffic import Arm
from pileus.security.pepper import Pepper
from pileus.security.ring import KeyRing
from pileus.store.tables import ApiKey
from pileus.testing.clock import ManualClock
from unit.gateway.house import Replica

INFO = DeploymentInfo(name="d", model="fake", engine="fake")
KEY = ApiKey(id="key_1", name="k", role="user", tenant="t", created_at=0.0, created_by="system")


class LentReplica(Replica):
    """Also lends places."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.address = "unix:/nowhere"
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_change: list[Callable[[], None]] = []
        self.loans = Loans(self._changed)

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    def available(self) -> Any:
        free = super().available()
        return type(free)(free.slots - self.loans.slots, free.kv_blocks)

    def lend(self, needs: Any) -> Loan:
        return self.loans.lend(needs)


class Books:
    """A settlement that remembers; nothing is reserved for who asks for more than 1,000 tokens."""

    def __init__(self) -> None:
        self.reserved = 0
        self.clear = asyncio.Event()  # nothing is reserved any more
        self.endings: list[Ending] = []

    def reserve(self, principal: object, price: object, prompt_tokens: int, completion_tokens: int) -> object:
        if prompt_tokens + completion_tokens > 1000:
            raise QuotaExceeded("too much", retry_after_s=7.0)
        self.reserved += 1
        return object()

    def settle(self, reservation: object, price: object, ending: Ending) -> None:
        self.reserved -= 1
        self.endings.append(ending)
        if not self.reserved:
            self.clear.set()


class Player:
    """A gateway process: what it heard, by kind."""

    def __init__(self) -> None:
        self.channel: Channel[wire.FromOwner] = Channel(wire.decode_from_owner)
        self.channel.listen(self)
        self.heard: list[wire.FromOwner] = []
        self._news = asyncio.Event()

    def on_connected(self) -> None: ...

    def on_gone(self, reason: str) -> None: ...

    def on_frame(self, frame: wire.FromOwner) -> None:
        self.heard.append(frame)
        self._news.set()

    async def next(self, kind: Any, number: int | None = None) -> Any:
        """The next frame of that kind, about that request if one is named; those before it are dropped."""
        async with asyncio.timeout(10):
            while True:
                while self.heard:
                    frame = self.heard.pop(0)
                    if isinstance(frame, kind) and number in (None, getattr(frame, "number", None)):
                        return frame
                self._news.clear()
                await self._news.wait()

    def ask(self, number: int, max_answer_tokens: int = 10, deployment: str = "d") -> None:
        self.channel.send(
            wire.Admit(
                number, "key_1", deployment, f"req_{number}", "chat", "d", None, Lane.ON_DEMAND, 0, None, 3, 1,
                max_answer_tokens, (),
            )
        )  # fmt: skip

    def end(self, number: int, tokens: int = 5) -> None:
        self.channel.send(wire.Ended(number, "length", RequestFigures(outcome="length", completion_tokens=tokens)))


class House:
    """An owner with one deployment."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.directory = ServingDirectory([INFO], list)
        self.books = Books()
        self.ring = KeyRing(Pepper(b"p" * 32), self.clock)
        self.ring.put(b"digest", KEY)
        self.refused: list[AuditEvent] = []
        owner = SchedulingOwner(Queue(), RoutingPolicy.COST, self.directory, cast(Any, self.books), {}, self.clock)
        self.scheduler = owner.open("d")
        sink = cast(Any, type("Sink", (), {"refused": self.refused.append}))
        self.hub = GatewayHub(owner, self.directory, self.ring, sink, Metrics(), lambda _: None)

    def add(self, replica: LentReplica) -> None:
        self.directory.add("d", cast(ReplicaLink, replica))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[tuple[House, Player]]:
    house, player = House(), Player()
    async with await house.hub.serve(tmp_path / "s.sock"):
        await asyncio.get_running_loop().create_unix_connection(lambda: player.channel, str(tmp_path / "s.sock"))
        assert (await player.next(wire.Key)).key == KEY
        assert (await player.next(wire.Offer)).info == INFO
        await player.next(wire.Known)
        yield house, player
        player.channel.close("the test is over")


async def test_a_request_is_admitted_placed_and_settled_once(house: tuple[House, Player]) -> None:
    owner, player = house
    replica = LentReplica(slots=1)
    owner.add(replica)
    assert (await player.next(wire.Up)).replica == replica.replica
    player.ask(1)
    placed = await player.next(wire.Placed)
    assert (placed.number, placed.turn, placed.replica, placed.lane) == (1, 1, replica.replica, Lane.ON_DEMAND)
    assert (replica.loans.slots, replica.loans.running, owner.books.reserved) == (1, 1, 1)
    player.ask(2)
    await player.next(wire.Accepted, 2)
    assert owner.scheduler.dispatcher.waiting == 1  # the one slot is lent
    player.end(1)
    player.end(1)
    player.end(2, tokens=0)
    player.ask(3)
    await player.next(wire.Placed)
    assert [(one.request_id, one.figures.completion_tokens) for one in owner.books.endings] == [
        ("req_1", 5),
        ("req_2", 0),
    ]
    assert (replica.loans.running, owner.books.reserved) == (1, 1)


async def test_public_names_reach_every_gateway_also_one_that_comes_later(
    house: tuple[House, Player], tmp_path: Path
) -> None:
    owner, player = house
    arms = (Arm("e", 0.25), Arm("d", 0.75))
    owner.directory.route("chat", arms)
    assert await player.next(wire.Route) == wire.Route("chat", arms)
    later = Player()
    await asyncio.get_running_loop().create_unix_connection(lambda: later.channel, str(tmp_path / "s.sock"))
    assert await later.next(wire.Route) == wire.Route("chat", arms)
    owner.directory.route("chat", ())
    assert (await later.next(wire.Route)).arms == (await player.next(wire.Route)).arms == ()
    later.channel.close("the test is over")


async def test_a_gateway_sends_requests_where_the_owner_says(tmp_path: Path) -> None:
    owner = House()
    owner.directory.put(DeploymentInfo(name="e", model="fake", engine="fake"))
    owner.directory.route("chat", (Arm("e", 1.0),))
    async with await owner.hub.serve(tmp_path / "s.sock"):
        member = OwnerLink(KeyRing(Pepper(b"p" * 32), owner.clock), owner.clock)
        await member.connect(tmp_path / "s.sock")
        assert member.directory.resolve("chat").name == "e"
        await member.close()


async def test_what_may_not_wait_is_told_why_and_owes_nothing(house: tuple[House, Player]) -> None:
    owner, player = house
    player.ask(1, max_answer_tokens=5000)
    refused = await player.next(wire.Refused)
    assert (refused.number, refused.code, refused.retry_after_s) == (1, "insufficient_quota", 7.0)
    player.ask(2, deployment="gone")
    assert (await player.next(wire.Refused)).code == "model_not_found"
    owner.ring.put(b"digest", ApiKey(**(_fields(KEY) | {"revoked_at": 1.0})))
    player.ask(3)
    assert (await player.next(wire.Refused)).code == "invalid_api_key"
    assert owner.books.reserved == 0


async def test_news_of_a_place_that_was_lost_before_counts_for_nothing(house: tuple[House, Player]) -> None:
    owner, player = house
    replica = LentReplica(slots=4)
    owner.add(replica)
    player.ask(1)
    first = await player.next(wire.Placed)
    player.channel.send(wire.Requeue(1, first.turn, (4,)))
    second = await player.next(wire.Placed)
    assert second.turn == first.turn + 1
    player.channel.send(wire.Requeue(1, first.turn, (4,)))  # late
    player.ask(2)
    assert (await player.next(wire.Placed)).number == 2
    assert replica.loans.running == 2


async def test_what_a_replica_counts_of_an_earlier_place_counts_for_nothing(house: tuple[House, Player]) -> None:
    owner, player = house
    replica = LentReplica(slots=4)
    owner.add(replica)
    player.ask(1)
    first = await player.next(wire.Placed)
    player.channel.send(wire.Requeue(1, first.turn, (0,)))
    second = await player.next(wire.Placed)
    player.channel.send(wire.Progress([(1, first.turn)], []))
    player.ask(2)
    await player.next(wire.Placed)
    assert replica.loans.slots == 2
    player.channel.send(wire.Progress([(1, second.turn)], [(1, second.turn)]))
    player.ask(3)
    await player.next(wire.Placed)
    assert (replica.loans.slots, replica.loans.running) == (2, 3)


async def test_a_replica_is_known_before_anything_is_placed_there(house: tuple[House, Player]) -> None:
    owner, player = house
    player.ask(1)
    await player.next(wire.Accepted)
    owner.add(LentReplica(slots=1))
    told = [type(await player.next(wire.Up | wire.Placed)) for _ in range(2)]
    assert told == [wire.Up, wire.Placed]


async def test_a_gateway_that_dies_owes_nothing_and_holds_nothing(house: tuple[House, Player]) -> None:
    owner, player = house
    replica = LentReplica(slots=1)
    owner.add(replica)
    player.ask(1)
    await player.next(wire.Placed)
    player.ask(2)
    await player.next(wire.Accepted, 2)
    player.channel.close("it dies")
    async with asyncio.timeout(10):
        await owner.books.clear.wait()
    assert {one.figures.outcome for one in owner.books.endings} == {"cancelled"}
    assert (replica.loans.running, owner.scheduler.dispatcher.waiting) == (0, 0)


async def test_a_lost_replica_is_told_to_gateways(house: tuple[House, Player]) -> None:
    owner, player = house
    replica = LentReplica(slots=1)
    owner.add(replica)
    await player.next(wire.Up)
    replica.lost.set_result("it hangs")
    assert (await player.next(wire.Down)).reason == "it hangs"


def test_an_error_comes_to_life_again_in_another_process() -> None:
    quota = revive("insufficient_quota", "no", retry_after_s=3.0)
    assert isinstance(quota, QuotaExceeded)
    assert quota.retry_after_s == 3.0
    missing = revive("model_not_found", "gone", param="model")
    assert isinstance(missing, ModelNotFound)
    assert (missing.message, missing.param) == ("gone", "model")
    assert isinstance(wire.displacement(wire.Displaced(1, "unavailable", "x", 2.0)), Overloaded)
    assert revive("never heard of", "x").code == "server_error"


def _fields(key: ApiKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in key.__struct_fields__}
