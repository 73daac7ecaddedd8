"""The replica's end of the wire: an engine's plain loop in one thread, the gateways' connections in another.

    for output in engine.events():        the engine's thread: runs a step, and sends each gateway its part
        replica.deliver(output)
                                          the thread "replica-io": takes submits and cancels, and sends what a
                                          socket did not take at once
                                          the thread "replica-adapters": has adapters loaded, which may read a disk

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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog

from pileus.core.errors import ModelRefused
from pileus.core.ports import AdaptableEngine, Encoder, Engine
from pileus.core.records import FinishReason, StepOutput
from pileus.engines.replica import wire
from pileus.engines.replica.switchboard import Gateway, Switchboard

STATS_INTERVAL_S = 0.5
OUTBOX_BYTES = 8 << 20
_FLUSH_S = 1.0  # for the last frames, when the engine has ended
_SWITCH_INTERVAL_S = 0.0005  # how long a busy engine thread may keep the other from a submit

log = structlog.get_logger(__name__)


class Replica:
    """One engine on one address. `start`, `deliver` and `close` are the engine thread's; `drain` is anybody's."""

    def __init__(
        self,
        engine: Engine | Encoder,
        *,
        address: str,
        replica: str,
        epoch: int,
        grace_s: float = 20.0,
        outbox_bytes: int = OUTBOX_BYTES,
    ) -> None:
        self.failed = False  # "replica-io" ended by an error
        self._engine = engine
        self._submit: Callable[[Any], None] = engine.submit  # the switchboard lets through what the engine takes
        self._replica = replica
        self._grace_s = grace_s
        self._switchboard = Switchboard(
            replica=replica,
            epoch=epoch,
            capabilities=engine.capabilities(),
            outbox_bytes=outbox_bytes,
            wake=self._wake,
        )
        self._drain_asked = False
        self._drain_until_s: float | None = None
        self._closing = False
        self._path = wire.socket_path(address)
        self._listener = _listen(self._path)
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="replica-io", daemon=True)
        self._adapting = ThreadPoolExecutor(1, thread_name_prefix="replica-adapters")
        self._log = log.bind(replica=replica)

    def start(self) -> None:
        """Begin to take connections."""
        for end in (self._waker, self._woken, self._listener):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def deliver(self, output: StepOutput) -> None:
        """Send each gateway its part of a step, and new figures when something was cancelled in it or nothing is left
        to do."""
        self._switchboard.deliver(output)
        cancelled = any(finish.reason is FinishReason.CANCELLED for finish in output.finishes)
        if cancelled or (output.finishes and not self._switchboard.busy()):
            self._switchboard.send_stats(self._engine.stats)
        if self._drain_asked:
            self._wake()

    def drain(self) -> None:
        """Take nothing new; close the engine when the last request has ended, or when the grace is over."""
        self._drain_asked = True
        self._wake()

    def close(self) -> None:
        """Send what is still held, as far as it is taken, and end every connection."""
        self._closing = True
        self._wake()
        self._thread.join()
        self._adapting.shutdown(cancel_futures=True)
        self._waker.close()
        self._woken.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it has been woken often enough, or sleeps for ever
            self._waker.send(b"\0")

    # --- the thread "replica-io" ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            next_stats_s = 0.0
            while not self._closing:
                if self._drain_asked:
                    self._drain_on()
                if time.monotonic() >= next_stats_s:
                    next_stats_s = time.monotonic() + STATS_INTERVAL_S
                    self._switchboard.send_stats(self._engine.stats)
                self._poll(max(0.0, next_stats_s - time.monotonic()))
        except Exception:  # this thread's edge: without it the replica is deaf, so the process must end
            self.failed = True
            self._engine.close()
            log.exception("replica_io_failed", replica=self._replica)
        finally:
            self._end()

    def _poll(self, timeout_s: float) -> None:
        for gateway in self._switchboard.present():
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
                self._attend(key.data, events)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.setblocking(False)
        gateway = self._switchboard.join(connection)
        self._selector.register(connection, selectors.EVENT_READ, gateway)
        self._log.info("gateway_connected", gateway=gateway.number)

    def _attend(self, gateway: Gateway, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._switchboard.flush(gateway)
            if events & selectors.EVENT_READ:
                received = gateway.connection.recv_into(gateway.inbox.room())
                for payload in gateway.inbox.frames(received):
                    self._take(gateway, wire.decode_down(payload))
                if not received:
                    self._part(gateway, "it closed the connection")
        except BlockingIOError:
            return
        except OSError as error:
            self._part(gateway, str(error))
        except (wire.WireError, msgspec.MsgspecError) as error:
            self._log.warning("malformed_frame", gateway=gateway.number, error=str(error))
            self._part(gateway, f"malformed frame: {error}")

    def _take(self, gateway: Gateway, frame: wire.Down) -> None:
        if isinstance(frame, wire.Submit | wire.Encode):
            if request := self._switchboard.enter(gateway, frame):
                self._submit(request)
        elif isinstance(frame, wire.Adapter):
            self._adapting.submit(self._adapt, gateway, frame)
        elif frame.request in gateway.unfinished:
            self._engine.cancel(frame.request, frame.choice)

    def _adapt(self, gateway: Gateway, frame: wire.Adapter) -> None:
        refused = []
        if not self._engine.capabilities().adapters:
            refused = [(source.id, "this engine has no adapters") for source in frame.load]
        else:
            engine = cast(AdaptableEngine, self._engine)
            for adapter in frame.unload:
                engine.unload_adapter(adapter)
            for source in frame.load:
                try:
                    engine.load_adapter(source)
                except ModelRefused as error:
                    refused.append((source.id, error.message))
                except Exception as error:  # this thread's edge: one bad file must not keep the answer for the others
                    log.exception("adapter_not_loaded", replica=self._replica, adapter=source.id)
                    refused.append((source.id, f"it cannot be loaded ({type(error).__name__})"))
        answer = wire.Adapted(self._switchboard.epoch, frame.number, tuple(refused))
        self._switchboard.send(gateway, answer)

    def _part(self, gateway: Gateway, reason: str) -> None:
        """End the connection, and all that was asked for on it."""
        self._log.info("gateway_left", gateway=gateway.number, reason=reason)
        self._selector.unregister(gateway.connection)
        orphans = self._switchboard.leave(gateway)
        gateway.connection.close()
        for request in orphans:
            self._engine.cancel(request)

    def _drain_on(self) -> None:
        """Begin to drain, or see whether it is over."""
        if self._drain_until_s is None:
            self._drain_until_s = time.monotonic() + self._grace_s
            self._log.info("draining", grace_s=self._grace_s)
            self._switchboard.drain()
        if not self._switchboard.busy() or time.monotonic() >= self._drain_until_s:
            self._engine.close()

    def _end(self) -> None:
        until_s = time.monotonic() + _FLUSH_S
        for gateway in self._switchboard.present():
            with contextlib.suppress(OSError):
                while gateway.outbox.held_bytes and (left_s := until_s - time.monotonic()) > 0:
                    gateway.connection.settimeout(left_s)
                    self._switchboard.flush(gateway)
            gateway.connection.close()
        self._selector.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)


def serve(engine: Engine | Encoder, *, address: str, replica: str, epoch: int, grace_s: float = 20.0) -> int:
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
    return 1 if served.failed else 0


def _listen(path: Path) -> socket.socket:
    """A listening Unix socket that only this user can open; a file that a dead process left there goes."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)
    listener.listen(64)
    return listener
