"""Which gateway asked for what: the books of a replica, kept between its two threads.

The engine's thread brings each step here, and each gateway gets its part as one frame; the thread "replica-io" brings
connections, submits and departures. Nothing here blocks: what a socket does not take at once stays in its outbox.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec.structs import replace

from pileus.core.records import (
    Capabilities,
    Credit,
    Emission,
    Encoded,
    EncodeRequest,
    EngineRequest,
    EngineStats,
    Finish,
    Started,
    StepOutput,
)
from pileus.engines.replica import wire
from pileus.engines.replica.outbox import Outbox, Overflow


class Gateway:
    """One connection, and the requests on it that have not ended."""

    def __init__(self, number: int, connection: socket.socket, outbox_bytes: int) -> None:
        self.number = number
        self.connection = connection
        self.inbox = wire.FrameBuffer()
        self.outbox = Outbox(connection, outbox_bytes)
        self.unfinished: dict[int, int] = {}  # request id -> choices without a finish
        self.last_id = number << wire.ID_BITS
        self.seen = 0  # of its submits, those that the engine has counted into its credit
        self.told = Credit(0, 0)  # the last credit that was sent
        self.broken = ""  # why the connection must be closed
        self.departed = False  # the connection is closed; its requests are being cancelled

    def check_id(self, request_id: int) -> None:
        """Rising, and in the connection's own range: so no id is used twice, and none is another gateway's."""
        if request_id <= self.last_id or request_id >> wire.ID_BITS != self.number:
            raise wire.WireError(f"request id {request_id} after {self.last_id}")
        self.last_id = request_id


class Switchboard:
    """`wake` is called when "replica-io" must look: a connection is broken, or its outbox is not empty."""

    def __init__(
        self, *, replica: str, epoch: int, capabilities: Capabilities, outbox_bytes: int, wake: Callable[[], None]
    ) -> None:
        self.epoch = epoch
        self._replica = replica
        self._capabilities = capabilities
        self._outbox_bytes = outbox_bytes
        self._wake = wake
        self._lock = threading.Lock()  # over everything below, and over the gateways' records
        self._credit = Credit(capabilities.slots, capabilities.kv_blocks)
        self._gateways: dict[int, Gateway] = {}  # also departed ones, until their requests have ended
        self._next_number = 0
        self._submitted = 0  # to the engine
        self._uncounted: deque[tuple[int, Gateway]] = deque()  # submits, by their number, that no credit has seen
        self._draining = False
        self._frame = bytearray()

    # --- from the engine's thread ---------------------------------------------------------------------------------

    def deliver(self, output: StepOutput) -> None:
        """Send each gateway its part of a step."""
        with self._lock:
            alone = len(self._gateways) == 1
            parts = dict.fromkeys(self._gateways, output) if alone else split(output)
            self._count(output)
            for gateway in self._gateways.values():
                self._tell(gateway, parts.get(gateway.number))

    # --- from "replica-io" ----------------------------------------------------------------------------------------

    def join(self, connection: socket.socket) -> Gateway:
        """Welcome a gateway."""
        with self._lock:
            gateway = Gateway(self._next_number, connection, self._outbox_bytes)
            self._next_number += 1
            self._gateways[gateway.number] = gateway
            gateway.told = replace(self._credit, seen=0)
            first_id, capabilities = gateway.last_id, self._capabilities
            self._send(
                gateway,
                wire.Hello(wire.PROTOCOL, self.epoch, self._replica, first_id, capabilities, gateway.told),
            )
            if self._draining:
                self._send(gateway, wire.Drain(self.epoch))
            return gateway

    def leave(self, gateway: Gateway) -> list[int]:
        """Its connection is closed. Returns the requests that nobody waits for any more."""
        with self._lock:
            gateway.departed = True
            orphans = list(gateway.unfinished)
            self._forget(gateway)
            return orphans

    def enter(self, gateway: Gateway, submit: wire.Submit | wire.Encode) -> EngineRequest | EncodeRequest | None:
        """Note a submit. Returns the request if it shall run. Raises `WireError` for one that breaks the protocol."""
        request = submit.request
        gateway.check_id(request.id)
        if isinstance(request, EncodeRequest) != self._capabilities.encoder:
            raise wire.WireError(f"request {request.id} is not for what this replica hosts")
        choices = 1 if isinstance(request, EncodeRequest) else len(request.choices)
        if not choices:
            raise wire.WireError(f"request {request.id} has no choices")
        with self._lock:
            refusal = ""
            if submit.epoch != self.epoch:
                refusal = f"this is epoch {self.epoch}, not {submit.epoch}"
            elif self._draining:
                refusal = "the replica is draining"
            else:
                self._submitted += 1
                gateway.unfinished[request.id] = choices
            self._uncounted.append((self._submitted, gateway))
            if refusal:
                self._send(gateway, wire.Lost(self.epoch, request.id, refusal))
        return None if refusal else request

    def flush(self, gateway: Gateway) -> None:
        """Send what its outbox holds, as far as the socket takes it. Raises `OSError` when the connection is gone."""
        with self._lock:
            gateway.outbox.flush()

    def send_stats(self, stats: Callable[[], EngineStats]) -> None:
        """Figures that count every step that was delivered before them: they are asked for under the lock."""
        with self._lock:
            self._send_all(wire.Stats(self.epoch, stats()))

    def send(self, gateway: Gateway, frame: wire.Up) -> None:
        """To one gateway; from any thread."""
        with self._lock:
            self._send(gateway, frame)

    def drain(self) -> None:
        """From now on refuse every submit."""
        with self._lock:
            self._draining = True
            self._send_all(wire.Drain(self.epoch))

    def present(self) -> list[Gateway]:
        """The gateways that are connected."""
        with self._lock:
            return [gateway for gateway in self._gateways.values() if not gateway.departed]

    def busy(self) -> bool:
        """Whether a request has not ended."""
        with self._lock:
            return any(gateway.unfinished for gateway in self._gateways.values())

    # --- under the lock -------------------------------------------------------------------------------------------

    def _count(self, output: StepOutput) -> None:
        """Enter into the books which submits the credit has seen, and what has ended."""
        self._credit = output.credit
        while self._uncounted and self._uncounted[0][0] <= output.credit.seen:
            self._uncounted.popleft()[1].seen += 1
        for finish in output.finishes:
            gateway = self._gateways.get(finish.request >> wire.ID_BITS)
            if gateway is None or finish.request not in gateway.unfinished:
                continue
            gateway.unfinished[finish.request] -= 1
            if not gateway.unfinished[finish.request]:
                del gateway.unfinished[finish.request]
                self._forget(gateway)

    def _forget(self, gateway: Gateway) -> None:
        if gateway.departed and not gateway.unfinished:
            self._gateways.pop(gateway.number, None)

    def _tell(self, gateway: Gateway, part: StepOutput | None) -> None:
        credit = replace(self._credit, seen=gateway.seen)
        if part and (part.emissions or part.finishes or part.started or part.encoded):
            self._send(
                gateway, wire.Step(self.epoch, part.started, part.emissions, part.finishes, credit, part.encoded)
            )
        elif credit != gateway.told:
            self._send(gateway, wire.Grant(self.epoch, credit))
        gateway.told = credit

    def _send_all(self, frame: wire.Up) -> None:
        for gateway in self._gateways.values():
            self._send(gateway, frame)

    def _send(self, gateway: Gateway, frame: wire.Up) -> None:
        if gateway.broken or gateway.departed:
            return
        wire.pack_into(frame, self._frame)
        try:
            gateway.outbox.send(self._frame)
        except (Overflow, OSError) as error:
            gateway.broken = str(error)
        if gateway.broken or gateway.outbox.held_bytes:
            self._wake()


def split(output: StepOutput) -> dict[int, StepOutput]:
    """A step's parts by the number of the gateway that they are for."""
    started, emissions, finishes, encoded = (
        _by_gateway(output.started),
        _by_gateway(output.emissions),
        _by_gateway(output.finishes),
        _by_gateway(output.encoded),
    )
    return {
        number: StepOutput(
            tuple(started.get(number, ())),
            tuple(emissions.get(number, ())),
            tuple(finishes.get(number, ())),
            output.credit,
            tuple(encoded.get(number, ())),
        )
        for number in {*started, *emissions, *finishes, *encoded}
    }


Item = TypeVar("Item", Started, Emission, Finish, Encoded)


def _by_gateway(items: Iterable[Item]) -> dict[int, list[Item]]:
    found: dict[int, list[Item]] = {}
    for item in items:
        found.setdefault(item.request >> wire.ID_BITS, []).append(item)
    return found
