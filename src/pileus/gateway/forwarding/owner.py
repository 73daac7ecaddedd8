"""The owner's side: other gateway processes' requests stand in its queues beside its own."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog

from pileus.core.errors import ModelNotFound, PileusError
from pileus.core.ports import RefusalSink
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.records import DeploymentInfo, ServedAdapter
from pileus.gateway.forwarding import wire
from pileus.gateway.forwarding.channel import Channel
from pileus.gateway.forwarding.forwarded import Forwarded
from pileus.gateway.scheduler import SchedulingOwner
from pileus.observability.figures import RequestFigures
from pileus.observability.metrics import Metrics
from pileus.security.ring import Entry, KeyRing

_NOTHING = RequestFigures(outcome="cancelled")

log = structlog.get_logger(__name__)


class Member:
    """One gateway process, as the owner sees it."""

    def __init__(self, hub: "GatewayHub", channel: "Channel[wire.FromGateway]") -> None:
        self.channel = channel
        self._hub = hub
        self._requests: dict[int, Forwarded] = {}

    def on_connected(self) -> None:
        self._hub.welcome(self)

    def on_frame(self, frame: wire.FromGateway) -> None:
        if isinstance(frame, wire.Progress):
            self._on_progress(frame)
        elif isinstance(frame, wire.Ended):
            self._on_ended(frame.number, frame.outcome, frame.figures)
        elif isinstance(frame, wire.Admit):
            self._on_admit(frame)
        elif isinstance(frame, wire.Requeue):
            self._on_requeue(frame)
        elif isinstance(frame, wire.TurnedDown):
            self._hub.turned_down(frame)
        else:
            self._hub.on_open(frame)

    def on_gone(self, reason: str) -> None:
        """What it held is over. What was delivered is not known: nothing is billed."""
        self._hub.on_gone(self, reason)
        for request in self._requests.values():  # all, before any of them is given a place that another leaves
            request.scheduler.dispatcher.withdraw(request)
        for number in tuple(self._requests):
            self._on_ended(number, "cancelled", _NOTHING)

    def _on_admit(self, asked: wire.Admit) -> None:
        try:
            request = self._hub.request(self.channel, asked)
        except PileusError as error:
            self._hub.turned_down(wire.TurnedDown(error.code, None))
            self.channel.send(wire.refused(asked.number, error))
            return
        try:
            request.scheduler.dispatcher.enqueue(request)
        except PileusError as error:
            ending = request.ending(error.code, RequestFigures(outcome="error", error_reason=error.code))
            request.scheduler.settle(request.admitted, ending)
            self.channel.send(wire.refused(asked.number, error))
            return
        self._requests[asked.number] = request
        self.channel.send(wire.Accepted(asked.number, self._hub.directory.starting_s(asked.deployment)))

    def _on_progress(self, frame: wire.Progress) -> None:
        for number, turn in frame.counted:
            if (request := self._requests.get(number)) and request.turn == turn and request.loan:
                request.loan.counted()
        for number, turn in frame.started:
            if (request := self._requests.get(number)) and request.turn == turn:
                request.scheduler.dispatcher.started(request)

    def _on_requeue(self, frame: wire.Requeue) -> None:
        request = self._requests.get(frame.number)
        if request is not None and request.link is not None and request.turn == frame.turn:
            lost = request.link
            request.lost_place(frame.emitted)
            request.scheduler.dispatcher.requeue(request, lost)

    def _on_ended(self, number: int, outcome: str, figures: RequestFigures) -> None:
        request = self._requests.pop(number, None)
        if request is None:
            return
        link = request.link
        request.leave()
        ending = request.ending(outcome, figures)
        request.scheduler.dispatcher.withdraw(request)
        request.scheduler.settle(request.admitted, ending)
        request.scheduler.served(request, ending, link)


class GatewayHub:
    """Tells every gateway process what it must know, and takes its requests in. Belongs to the event loop's thread."""

    def __init__(
        self,
        scheduling: SchedulingOwner,
        directory: ServingDirectory,
        ring: KeyRing,
        refusals: RefusalSink,
        metrics: Metrics,
        model_path: Callable[[str], str | None],
    ) -> None:
        self.directory = directory
        self._scheduling = scheduling
        self._ring = ring
        self._refusals = refusals
        self._metrics = metrics
        self._model_path = model_path  # of a deployment
        self._members: list[Member] = []
        self._open: dict[int, asyncio.Event] = {}  # by the gateway's number
        self._replicas: dict[ReplicaLink, wire.Up] = {}
        ring.on_put.append(lambda entry: self._tell(_key(entry)))
        directory.on_offered.append(self._on_offered)
        directory.on_dropped.append(self._on_dropped)
        directory.on_added.append(self._on_added)
        directory.on_adapters.append(self._on_adapters)
        directory.on_routed.append(lambda name, arms: self._tell(wire.Route(name, arms)))
        for name in directory.deployments():
            for link in directory.ready(name):
                self._on_added(name, link)

    async def serve(self, path: Path) -> asyncio.Server:
        """Let gateway processes connect there; whoever can must be allowed to."""
        return await asyncio.get_running_loop().create_unix_server(self._connect, str(path))

    async def wait_open(self, gateways: int) -> None:
        """Return once that many take connections."""
        for number in range(gateways):
            await self._opened(number).wait()

    # --- for members ------------------------------------------------------------------------------------------------

    def welcome(self, member: Member) -> None:
        """Tell it all that there is."""
        self._members.append(member)
        for entry in self._ring:
            member.channel.send(_key(entry))
        for name in self.directory.deployments():
            member.channel.send(self._offer(self.directory.info(name)))
            member.channel.send(wire.Adapters(name, tuple(self.directory.adapters(name).values())))
        for up in self._replicas.values():
            member.channel.send(up)
        for name in self.directory.public_names():
            member.channel.send(wire.Route(name, self.directory.arms(name)))
        member.channel.send(wire.Known())

    def request(self, channel: "Channel[wire.FromGateway]", asked: wire.Admit) -> Forwarded:
        """With its worst case reserved. Raises `PileusError` where it may not be."""
        scheduler = self._scheduling.scheduler(asked.deployment)
        if scheduler is None:
            raise ModelNotFound(f"the model {asked.deployment!r} is not served any more", param="model")
        self._ring.check(asked.key_id)
        entry = self._ring.get(asked.key_id)
        assert entry is not None
        return Forwarded(channel, asked, entry.principal, scheduler)

    def turned_down(self, frame: wire.TurnedDown) -> None:
        if frame.code is not None:
            self._metrics.request_refused(frame.code)
        if frame.event is not None:
            self._refusals.refused(frame.event)

    def on_open(self, frame: wire.Open) -> None:
        log.info("gateway_open", gateway=frame.gateway, pid=frame.pid)
        self._opened(frame.gateway).set()

    def on_gone(self, member: Member, reason: str) -> None:
        self._members.remove(member)
        log.info("gateway_gone", reason=reason)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _connect(self) -> "Channel[wire.FromGateway]":
        channel: Channel[wire.FromGateway] = Channel(wire.decode_from_gateway)
        member = Member(self, channel)
        channel.listen(member)
        return channel

    def _opened(self, number: int) -> asyncio.Event:
        return self._open.setdefault(number, asyncio.Event())

    def _offer(self, info: DeploymentInfo) -> wire.Offer:
        return wire.Offer(info, self._model_path(info.name))

    def _on_offered(self, info: DeploymentInfo) -> None:
        self._tell(self._offer(info))

    def _on_dropped(self, deployment: str) -> None:
        self._tell(wire.Withdraw(deployment))

    def _on_adapters(self, deployment: str, adapters: Sequence[ServedAdapter]) -> None:
        self._tell(wire.Adapters(deployment, tuple(adapters)))

    def _on_added(self, deployment: str, link: ReplicaLink) -> None:
        up = self._replicas[link] = wire.Up(deployment, link.replica, link.epoch, link.address)
        self._tell(up)
        link.lost.add_done_callback(partial(self._on_lost, link))

    def _on_lost(self, link: ReplicaLink, lost: "asyncio.Future[str]") -> None:
        self._replicas.pop(link, None)
        self._tell(wire.Down(link.replica, link.epoch, lost.result()))

    def _tell(self, frame: wire.FromOwner) -> None:
        for member in self._members:
            member.channel.send(frame)


def _key(entry: Entry) -> wire.Key:
    return wire.Key(entry.digest, entry.key)
