"""The replica's end of the wire: an engine's plain loop in one thread, the gateways' connections in another.

    for output in engine.events():        the engine's thread: runs a step, and sends each gateway its part
        replica.deliver(output)
                                          the thread "replica-io": takes submits and cancels, and sends what a
                                          socket did not take at once

A gateway that reads too slowly, breaks the protocol or goes away loses its connection; its requests are cancelled on
the engine, and nobody else notices. See `wire` for the frames.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque

import msgspec
import structlog

from pileus.core.ports import Engine
from pileus.core.records import Credit, Emission, EngineRequest, Finish, FinishReason, Started, StepOutput
from pileus.engines.replica import wire
from pileus.engines.replica.outbox import Outbox, Overflow

STATS_INTERVAL_S = 0.5
OUTBOX_BYTES = 8 << 20
_FLUSH_S = 1.0  # for the last frames, when the engine has ended
_SWITCH_INTERVAL_S = 0.0005  # how long a busy engine thread may keep the other from a submit

log = structlog.get_logger(__name__)


class _Gateway:
    """One connection, and the requests on it that have not ended."""

    def __init__(self, number: int, connection: socket.socket, outbox_bytes: int) -> None:
        self.number = number
        self.connection = connection
        self.inbox = wire.FrameBuffer()
        self.outbox = Outbox(connection, outbox_bytes)
        self.unfinished: dict[int, int] = {}  # request id -> choices without a finish
        self.last_id = number << wire.ID_BITS
        self.seen = 0  # of its submits, those that the engine has counted into its credit
        self.told = Credit(-1, -1)
        self.broken = ""  # why it must be closed, found by the engine's thread
        self.closed = False


class Replica:
    """One engine on one address. `deliver` belongs to the engine's thread; `drain` may be called from anywhere."""

    def __init__(
        self,
        engine: Engine,
        *,
        address: str,
        replica: str,
        epoch: int,
        grace_s: float = 20.0,
        outbox_bytes: int = OUTBOX_BYTES,
    ) -> None:
        self._engine = engine
        self._replica = replica
        self._epoch = epoch
        self._grace_s = grace_s
        self._outbox_bytes = outbox_bytes
        self._capabilities = engine.capabilities()
        self._credit = Credit(self._capabilities.slots, self._capabilities.kv_blocks)
        self._lock = threading.Lock()  # over everything below, and over the gateways' records
        self._gateways: dict[int, _Gateway] = {}  # also departed ones, until their requests have ended
        self._next_number = 0
        self._submitted = 0  # to the engine
        self._untold: deque[tuple[int, _Gateway]] = deque()  # submits, by their count, that no credit has seen
        self._frame = bytearray()
        self._drain_asked = False
        self._drain_until: float | None = None
        self._closing = False
        self._path = wire.socket_path(address)
        self._listener = _listen(address)
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="replica-io", daemon=True)

    # --- from the engine's thread ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take connections."""
        for readable in (self._waker, self._woken, self._listener):
            readable.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def deliver(self, output: StepOutput) -> None:
        """Send each gateway its part of a step."""
        with self._lock:
            self._count(output)
            present = [gateway for gateway in self._gateways.values() if not gateway.closed]
            alone = len(self._gateways) == 1
            parts = dict.fromkeys(self._gateways, output) if alone else split(output)
            for gateway in present:
                self._tell(gateway, parts.get(gateway.number))
            if any(finish.reason is FinishReason.CANCELLED for finish in output.finishes):
                self._send_stats()
            if self._drain_until is not None:
                self._wake()

    def close(self) -> None:
        """Send what is still held, as far as it is taken, and end every connection."""
        self._closing = True
        self._wake()
        self._thread.join()

    def drain(self) -> None:
        """Take nothing new; close the engine when the last request has ended, or when the grace is over."""
        self._drain_asked = True
        self._wake()

    def _count(self, output: StepOutput) -> None:
        self._credit = output.credit
        while self._untold and self._untold[0][0] <= output.credit.seen:
            self._untold.popleft()[1].seen += 1
        for finish in output.finishes:
            gateway = self._gateways.get(finish.request >> wire.ID_BITS)
            if gateway is None or finish.request not in gateway.unfinished:
                continue
            gateway.unfinished[finish.request] -= 1
            if not gateway.unfinished[finish.request]:
                del gateway.unfinished[finish.request]
                self._forget_departed(gateway)

    def _tell(self, gateway: _Gateway, part: StepOutput | None) -> None:
        credit = Credit(self._credit.slots, self._credit.kv_blocks, gateway.seen)
        if part and (part.emissions or part.finishes or part.started):
            self._send(gateway, wire.Step(self._epoch, part.started, part.emissions, part.finishes, credit))
        elif credit != gateway.told:
            self._send(gateway, wire.Grant(self._epoch, credit))
        gateway.told = credit

    def _send(self, gateway: _Gateway, frame: wire.Up) -> None:
        if gateway.broken or gateway.closed:
            return
        wire.pack_into(frame, self._frame)
        try:
            gateway.outbox.send(self._frame)
        except (Overflow, OSError) as error:
            gateway.broken = str(error)
        if gateway.broken or gateway.outbox.held_bytes:
            self._wake()

    def _send_stats(self) -> None:
        frame = wire.Stats(self._epoch, self._engine.stats())
        for gateway in self._gateways.values():
            self._send(gateway, frame)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            self._waker.send(b"\0")

    # --- the thread "replica-io" ----------------------------------------------------------------------------------

    def _run(self) -> None:
        next_stats_s = 0.0
        while not self._closing:
            if self._drain_asked:
                self._drain_on()
            if time.monotonic() >= next_stats_s:
                next_stats_s = time.monotonic() + STATS_INTERVAL_S
                with self._lock:
                    self._send_stats()
            self._poll(max(0.0, next_stats_s - time.monotonic()))
        self._end()

    def _poll(self, timeout_s: float) -> None:
        with self._lock:
            gateways = [gateway for gateway in self._gateways.values() if not gateway.closed]
        for gateway in gateways:
            if gateway.broken:
                self._part(gateway, gateway.broken)
            else:
                writing = selectors.EVENT_WRITE if gateway.outbox.held_bytes else 0
                self._selector.modify(gateway.connection, selectors.EVENT_READ | writing, gateway)
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                self._serve(key.data, events)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.setblocking(False)
        gateway = _Gateway(self._next_number, connection, self._outbox_bytes)
        self._next_number += 1
        self._selector.register(connection, selectors.EVENT_READ, gateway)
        log.info("gateway_connected", replica=self._replica, gateway=gateway.number)
        hello = wire.Hello(wire.PROTOCOL, self._epoch, self._replica, gateway.last_id, self._capabilities)
        with self._lock:
            self._gateways[gateway.number] = gateway
            self._send(gateway, hello)
            self._tell(gateway, None)
            if self._drain_until is not None:
                self._send(gateway, wire.Drain(self._epoch))

    def _serve(self, gateway: _Gateway, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                with self._lock:
                    gateway.outbox.flush()
            if events & selectors.EVENT_READ:
                received = gateway.connection.recv_into(gateway.inbox.room())
                if not received:
                    self._part(gateway, "it closed the connection")
                    return
                for payload in gateway.inbox.frames(received):
                    self._take(gateway, wire.decode_down(payload))
        except BlockingIOError:
            return
        except OSError as error:
            self._part(gateway, str(error))
        except (wire.WireError, msgspec.MsgspecError) as error:
            log.warning("malformed_frame", replica=self._replica, gateway=gateway.number, error=str(error))
            self._part(gateway, f"malformed frame: {error}")

    def _take(self, gateway: _Gateway, frame: wire.Down) -> None:
        if isinstance(frame, wire.Cancel):
            if frame.request in gateway.unfinished:
                self._engine.cancel(frame.request)
        elif frame.epoch != self._epoch:
            self._refuse(gateway, frame.request, f"this is epoch {self._epoch}, not {frame.epoch}")
        elif self._drain_until is not None:
            self._refuse(gateway, frame.request, "the replica is draining")
        else:
            self._submit(gateway, frame.request)

    def _submit(self, gateway: _Gateway, request: EngineRequest) -> None:
        self._check_id(gateway, request.id)
        if not request.choices:
            raise wire.WireError(f"request {request.id} has no choices")
        with self._lock:
            gateway.unfinished[request.id] = len(request.choices)
            self._submitted += 1
            self._untold.append((self._submitted, gateway))
        self._engine.submit(request)

    def _refuse(self, gateway: _Gateway, request: EngineRequest, reason: str) -> None:
        self._check_id(gateway, request.id)
        with self._lock:
            self._untold.append((self._submitted, gateway))
            self._send(gateway, wire.Lost(self._epoch, request.id, reason))

    def _check_id(self, gateway: _Gateway, request_id: int) -> None:
        """Rising, and in the connection's own range: so no id is used twice, and none is another gateway's."""
        if request_id <= gateway.last_id or request_id >> wire.ID_BITS != gateway.number:
            raise wire.WireError(f"request id {request_id} after {gateway.last_id}")
        gateway.last_id = request_id

    def _part(self, gateway: _Gateway, reason: str) -> None:
        """End the connection, and all that was asked for on it."""
        log.info("gateway_left", replica=self._replica, gateway=gateway.number, reason=reason)
        self._selector.unregister(gateway.connection)
        with self._lock:
            gateway.closed = True
            orphans = list(gateway.unfinished)
            self._forget_departed(gateway)
        gateway.connection.close()
        for request in orphans:
            self._engine.cancel(request)

    def _forget_departed(self, gateway: _Gateway) -> None:
        if gateway.closed and not gateway.unfinished:
            self._gateways.pop(gateway.number, None)

    def _drain_on(self) -> None:
        """Begin to drain, or see whether it is over."""
        with self._lock:
            if self._drain_until is None:
                self._drain_until = time.monotonic() + self._grace_s
                log.info("draining", replica=self._replica, grace_s=self._grace_s)
                for gateway in self._gateways.values():
                    self._send(gateway, wire.Drain(self._epoch))
            busy = any(gateway.unfinished for gateway in self._gateways.values())
        if not busy or time.monotonic() >= self._drain_until:
            self._engine.close()

    def _end(self) -> None:
        until_s = time.monotonic() + _FLUSH_S
        for gateway in list(self._gateways.values()):
            with contextlib.suppress(OSError):
                gateway.connection.settimeout(max(0.01, until_s - time.monotonic()))
                while gateway.outbox.held_bytes and time.monotonic() < until_s:
                    gateway.outbox.flush()
            gateway.connection.close()
        self._selector.close()
        for end in (self._listener, self._waker, self._woken):
            end.close()
        self._path.unlink(missing_ok=True)


def serve(engine: Engine, *, address: str, replica: str, epoch: int, grace_s: float = 20.0) -> int:
    """Host an engine until it is closed or asked to end by SIGTERM, which drains it. Returns the exit status."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    served = Replica(engine, address=address, replica=replica, epoch=epoch, grace_s=grace_s)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: served.drain())
    served.start()
    try:
        for output in engine.events():
            served.deliver(output)
    except Exception:  # the process's edge: the engine is lost, and the replica with it
        log.exception("engine_lost", replica=replica)
        return 1
    finally:
        served.close()
    return 0


def split(output: StepOutput) -> dict[int, StepOutput]:
    """A step's parts by the number of the gateway that they are for."""
    items: tuple[Started | Emission | Finish, ...] = (*output.started, *output.emissions, *output.finishes)
    numbers = {item.request >> wire.ID_BITS for item in items}
    return {
        number: StepOutput(
            tuple(item for item in output.started if item.request >> wire.ID_BITS == number),
            tuple(item for item in output.emissions if item.request >> wire.ID_BITS == number),
            tuple(item for item in output.finishes if item.request >> wire.ID_BITS == number),
            output.credit,
        )
        for number in numbers
    }


def _listen(address: str) -> socket.socket:
    """A listening Unix socket that only this user can open; a file that a dead process left there goes."""
    path = wire.socket_path(address)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    listener.listen(64)
    return listener
