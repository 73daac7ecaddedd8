"""A further gateway process' side: what it asks the owner, and what it knows through it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from msgspec import Struct

from pileus.core.clock import Clock
from pileus.core.errors import PileusError, Unavailable, revive
from pileus.core.ports import ReplicaSink
from pileus.core.records import AuditEvent
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.directory import ServingDirectory
from pileus.gateway.forwarding import wire
from pileus.gateway.forwarding.channel import Channel
from pileus.gateway.pending import Pending
from pileus.gateway.settle import ending_of
from pileus.security.ring import KeyRing

_CONNECT_POLL_S = 0.1
_LAST_WORDS_S = 1.0

log = structlog.get_logger(__name__)


class _Request(Struct, eq=False):
    """A pending that the owner knows of."""

    pending: Pending
    answer: asyncio.Future[None]  # whether it may wait
    turn: int = 0


class OwnerLink:
    """The connection to the owner. `lost` is done, with the reason, when it is over; then this process must end."""

    def __init__(self, ring: KeyRing, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.directory = ServingDirectory([], list, starting_s=self._starting_in)
        self.known = asyncio.Event()  # set once the owner has said all that there is
        self.lost: asyncio.Future[str] = loop.create_future()
        self.on_offered: Callable[[wire.Offer], None] = lambda _: None
        self.on_withdrawn: Callable[[str], None] = lambda _: None
        self._ring = ring
        self._clock = clock
        self._channel: Channel[wire.FromOwner] = Channel(wire.decode_from_owner)
        self._channel.listen(self)
        self._requests: dict[int, _Request] = {}
        self._numbers: dict[int, int] = {}  # by the pending's identity
        self._last_number = 0
        self._replicas: dict[tuple[str, int], tuple[wire.Up, asyncio.Task[ReplicaLink]]] = {}  # by name and epoch
        self._starting: dict[str, float] = {}  # when deployments that start will be there, as last told
        self._counted: list[tuple[int, int]] = []  # number and turn
        self._started: list[tuple[int, int]] = []

    async def connect(self, path: Path) -> None:
        """Return when all is known. Raises `OSError` where nobody listens."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._channel, str(path))
        await self.known.wait()

    def open(self, gateway: int, pid: int) -> None:
        """Tell that this gateway takes connections."""
        self._channel.send(wire.Open(gateway, pid))

    async def close(self) -> None:
        """Once what was sent has gone."""
        self._channel.finish()
        await asyncio.wait({self.lost}, timeout=_LAST_WORDS_S)

    # --- for the edge (`core.ports.RefusalSink`, and the figures) -------------------------------------------------

    def refused(self, event: AuditEvent) -> None:
        self._channel.send(wire.TurnedDown(None, event))

    def request_refused(self, reason: str) -> None:
        self._channel.send(wire.TurnedDown(reason, None))

    # --- for the scheduler ------------------------------------------------------------------------------------------

    async def admit(self, pending: Pending) -> None:
        """See `gateway.pending.Scheduler`."""
        if self.lost.done():
            raise Unavailable("The server is stopping.", retry_after_s=1.0)
        self._last_number = number = self._last_number + 1
        request = _Request(pending, asyncio.get_running_loop().create_future())
        self._requests[number] = request
        self._numbers[id(pending)] = number
        self._channel.send(_admit(number, pending))
        try:
            await request.answer
        except PileusError as error:
            error.settled = True
            raise
        except BaseException:
            pending.cancel()
            raise

    def requeue(self, pending: Pending) -> None:
        number = self._numbers[id(pending)]
        self._channel.send(wire.Requeue(number, self._requests[number].turn, pending.emitted))

    def started(self, pending: Pending) -> None:
        self._progress(self._started, pending)

    def ended(self, pending: Pending, outcome: str) -> None:
        if id(pending) not in self._numbers:  # the owner refused it, just when its caller left
            return
        self._channel.send(wire.Ended(self._forget(pending), outcome, ending_of(pending, outcome).figures))

    # --- what the owner says ----------------------------------------------------------------------------------------

    def on_connected(self) -> None:
        """The owner speaks first."""

    def on_frame(self, frame: wire.FromOwner) -> None:
        if isinstance(frame, wire.Placed):
            self._on_placed(frame)
        elif isinstance(frame, wire.Accepted | wire.Refused):
            self._on_answer(frame)
        elif isinstance(frame, wire.Preempt | wire.Expired | wire.Displaced):
            self._on_moved(frame)
        elif isinstance(frame, wire.Up | wire.Down):
            self._on_replica(frame)
        else:
            self._on_news(frame)

    def on_gone(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for request in tuple(self._requests.values()):
            if not request.answer.done():
                request.answer.set_exception(Unavailable("The server is stopping.", retry_after_s=1.0))

    def _on_answer(self, frame: wire.Accepted | wire.Refused) -> None:
        request = self._requests.get(frame.number)
        if request is None:
            return
        if isinstance(frame, wire.Accepted):
            self._starting.pop(request.pending.deployment, None)
            if frame.starting_s is not None:
                self._starting[request.pending.deployment] = self._clock.monotonic() + frame.starting_s
            if not request.answer.done():
                request.answer.set_result(None)
            return
        self._forget(request.pending)
        if not request.answer.done():
            error = revive(frame.code, frame.message, param=frame.param, retry_after_s=frame.retry_after_s)
            request.answer.set_exception(error)

    def _on_placed(self, frame: wire.Placed) -> None:
        request = self._requests.get(frame.number)
        if request is None:
            return
        request.turn = frame.turn
        if not request.answer.done():
            request.answer.set_result(None)
        joining = self._joining(frame.replica, frame.epoch)
        if joining is None:
            self.requeue(request.pending)
        elif joining.done():
            self._place(frame, joining)
        else:
            joining.add_done_callback(lambda joined: self._place(frame, joined))

    def _place(self, frame: wire.Placed, joined: "asyncio.Task[ReplicaLink]") -> None:
        """Send it there, if that is still its turn."""
        request = self._requests.get(frame.number)
        if request is None or request.turn != frame.turn:
            return
        if joined.cancelled():
            self.requeue(request.pending)
        else:
            request.pending.on_placed(joined.result(), frame.lane)

    def _on_moved(self, frame: wire.Preempt | wire.Expired | wire.Displaced) -> None:
        request = self._requests.get(frame.number)
        if request is None:
            return
        pending = request.pending
        if isinstance(frame, wire.Expired):
            pending.on_expired()
        elif isinstance(frame, wire.Displaced):
            pending.on_displaced(wire.displacement(frame))
        elif request.turn == frame.turn:
            request.turn = -frame.turn  # it has none until the next
            if pending.replica is not None:
                pending.on_preempted()

    def _on_replica(self, frame: wire.Up | wire.Down) -> None:
        if isinstance(frame, wire.Up):
            self._join(frame)
            return
        known = self._replicas.pop((frame.replica, frame.epoch), None)
        if known is None:
            return
        _, joining = known
        if joining.done():
            joining.result().close(frame.reason)
        joining.cancel()

    def _join(self, up: wire.Up) -> "asyncio.Task[ReplicaLink]":
        joining = asyncio.create_task(self._connect(up))
        self._replicas[up.replica, up.epoch] = (up, joining)
        return joining

    def _joining(self, replica: str, epoch: int) -> "asyncio.Task[ReplicaLink] | None":
        """The connection, which is made anew where it was lost; None for a replica that the owner says is gone. Until
        the owner knows, it may go on sending requests there: these wait for the connection, or for its word."""
        known = self._replicas.get((replica, epoch))
        if known is None:
            return None
        up, joining = known
        lost = joining.done() and not joining.cancelled() and joining.result().lost.done()
        return self._join(up) if lost else joining

    async def _connect(self, up: wire.Up) -> ReplicaLink:
        """Try until it succeeds, or the owner says that the replica is gone."""
        while True:
            try:
                link = await ReplicaLink.connect(up.address, replica=up.replica, epoch=up.epoch)
                break
            except (Unavailable, OSError) as error:
                log.warning("replica_not_reached", replica=up.replica, epoch=up.epoch, reason=str(error))
                await asyncio.sleep(_CONNECT_POLL_S)
        link.on_counted.append(lambda sink: self._on_counted(link, sink))
        link.lost.add_done_callback(lambda _: self._joining(up.replica, up.epoch))
        if not (link.draining or link.lost.done()):
            self.directory.add(up.deployment, link)
        return link

    def _on_news(self, frame: wire.News) -> None:
        if isinstance(frame, wire.Key):
            self._ring.put(frame.digest, frame.key)
        elif isinstance(frame, wire.Offer):
            self.on_offered(frame)
            self.directory.put(frame.info)
        elif isinstance(frame, wire.Withdraw):
            self.directory.drop(frame.deployment)
            self.on_withdrawn(frame.deployment)
        elif isinstance(frame, wire.Adapters):
            self.directory.put_adapters(frame.deployment, frame.adapters)
        elif isinstance(frame, wire.Route):
            self.directory.route(frame.name, frame.arms)
        else:
            self.known.set()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _forget(self, pending: Pending) -> int:
        number = self._numbers.pop(id(pending))
        del self._requests[number]
        return number

    def _starting_in(self, deployment: str) -> float | None:
        there_at = self._starting.get(deployment)
        return None if there_at is None else max(1.0, there_at - self._clock.monotonic())

    def _on_counted(self, link: ReplicaLink, sink: ReplicaSink) -> None:
        """Unless it was taken from there before the replica counted it."""
        if isinstance(sink, Pending) and sink.replica is link:
            self._progress(self._counted, sink)

    def _progress(self, noted: list[tuple[int, int]], pending: Pending) -> None:
        """Note it; all that is noted in one turn of the loop goes in one frame."""
        number = self._numbers.get(id(pending))
        if number is None:
            return
        if not self._counted and not self._started:
            asyncio.get_running_loop().call_soon(self._report)
        noted.append((number, self._requests[number].turn))

    def _report(self) -> None:
        self._channel.send(wire.Progress(self._counted, self._started))
        self._counted.clear()
        self._started.clear()


def _admit(number: int, pending: Pending) -> wire.Admit:
    request = pending.request
    return wire.Admit(
        number=number,
        key_id=pending.principal.key_id,
        deployment=pending.deployment,
        request_id=request.id,
        operation=request.operation,
        requested_model=request.model,
        traceparent=request.traceparent,
        lane=request.lane,
        priority=request.priority,
        due=pending.due,
        prompt_tokens=pending.prompt_tokens,
        choices=pending.choices,
        max_answer_tokens=pending.max_answer_tokens,
        prefix=pending.prefix,
        adapter=pending.adapter,
    )
