"""The gateway's end of the wire: requests go to a replica, tokens come back to each request's sink.

This is the hot path of the server process. Frames are decoded where they were received, and each emission is one
plain call: no task, queue or await per token.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import cast

import msgspec
import structlog
from msgspec.structs import replace

from pileus.core.errors import Unavailable
from pileus.core.ports import AdapterSource, EncodeSink, ReplicaSink
from pileus.core.records import Capabilities, Credit, EncodeRequest, EngineRequest, EngineStats
from pileus.engines.replica import wire
from pileus.engines.replica.loans import Loan, Loans

_CONNECT_POLL_S = 0.02
_RATE_INTERVAL_S = 0.4
_STEPS_KEPT = 512
_RATES_KEPT = 32
ID_BYTES = 4  # of a token in an encode request

log = structlog.get_logger(__name__)


class _Open:
    """A request that has not ended: who listens, and how many of its choices are unfinished."""

    __slots__ = ("sink", "unfinished")

    def __init__(self, sink: ReplicaSink, choices: int) -> None:
        self.sink = sink
        self.unfinished = choices


class ReplicaLink(asyncio.BufferedProtocol):
    """One connection to one replica.

    A sink hears `on_started`, then its emissions, then one `on_finish` per choice, in this order; after `cancel`, or
    once the request was lost, it hears nothing more. `lost` is done, with the reason, when the connection is gone: each
    open sink has then heard `on_lost` once. `on_change` is called when there is more or less room for requests, and
    when the replica starts to drain.
    """

    def __init__(self, replica: str, epoch: int, address: str = "") -> None:
        loop = asyncio.get_running_loop()
        self.replica = replica
        self.epoch = epoch
        self.address = address
        self.loans = Loans(self._changed)
        self.on_counted: list[Callable[[ReplicaSink], None]] = []  # called when the credit has a sink's request
        self.lost: asyncio.Future[str] = loop.create_future()
        self.on_change: list[Callable[[], None]] = []
        self.draining = False
        self.stats = EngineStats()
        self.tokens_per_s = 0.0  # over the last interval between two `Stats`
        self.step_s = 0.0  # mean length of an engine step, over the same
        self.heard_s = self.stepped_s = monotonic()  # when the replica last said anything; when it last ended a step
        self.steps_s: deque[float] = deque(maxlen=_STEPS_KEPT)  # from step to step, while requests are open
        self.token_s: deque[float] = deque(maxlen=_RATES_KEPT)  # engine seconds per token, between two `Stats`
        self._greeted: asyncio.Future[wire.Hello] = loop.create_future()
        self._rated: tuple[float, EngineStats] | None = None  # where the present interval began
        self._told: asyncio.Future[None] | None = None  # done by the next `Stats`
        self._adapting: dict[int, asyncio.Future[dict[str, str]]] = {}  # by the frame's number
        self._last_adapting = 0
        self._inbox = wire.FrameBuffer()
        self._open: dict[int, _Open] = {}
        self._encoding: dict[int, EncodeSink] = {}  # those of them that are encode requests
        self._last_id = 0
        self._credit = Credit(0, 0)
        self._unseen: deque[tuple[Credit, ReplicaSink]] = deque()  # what submits take that no credit has counted yet
        self._unseen_slots = 0
        self._unseen_blocks = 0
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, address: str, *, replica: str, epoch: int) -> "ReplicaLink":
        """Wait until the replica listens and has said who it is. Raises `Unavailable` where that is wrong."""
        path = str(wire.socket_path(address))
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, link = await loop.create_unix_connection(lambda: cls(replica, epoch, address), path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(_CONNECT_POLL_S)
        try:
            await link._greeted
        except asyncio.CancelledError:
            link.close("nobody waited for it to speak")
            raise
        return link

    # --- for the gateway ------------------------------------------------------------------------------------------

    @property
    def hello(self) -> wire.Hello:
        return self._greeted.result()

    @property
    def capabilities(self) -> Capabilities:
        return self.hello.capabilities

    @property
    def open_requests(self) -> int:
        """Those of other gateway processes too."""
        return len(self._open) + self.loans.running

    def lend(self, needs: Credit) -> Loan:
        """Another gateway process sends a request there that takes so much."""
        self._awake()
        return self.loans.lend(needs)

    def _awake(self) -> None:
        """It gets work: its present step begins now, if it had none."""
        if not self.open_requests:
            self.stepped_s = monotonic()

    def submit(self, request: EngineRequest, sink: ReplicaSink) -> int:
        """Send the request under a new id, which is returned. On a lost link the sink hears `on_lost` soon."""
        request_id = self._enter(sink, demand(request, self.capabilities.block_size))
        if self._transport:
            numbered = EngineRequest(
                request_id,
                request.prompt,
                request.params,
                request.choices,
                request.salt,
                request.lane,
                request.adapter,
            )
            self._transport.write(wire.pack(wire.Submit(self.epoch, numbered)))
        return request_id

    def encode(self, request: EncodeRequest, sink: EncodeSink) -> int:
        """As `submit`, to an encoder."""
        tokens = sum(map(len, request.texts)) // ID_BYTES
        request_id = self._enter(sink, needs_of(tokens, [0], self.capabilities.block_size))
        if self._transport:
            self._encoding[request_id] = sink
            self._transport.write(wire.pack(wire.Encode(self.epoch, replace(request, id=request_id))))
        return request_id

    def _enter(self, sink: ReplicaSink, needs: Credit) -> int:
        """Open a request that takes so much, under a new id."""
        self._last_id = request_id = self._last_id + 1
        if self._transport is None:
            asyncio.get_running_loop().call_soon(sink.on_lost, self.lost.result())
            return request_id
        self._awake()
        self._open[request_id] = _Open(sink, needs.slots)
        self._unseen.append((needs, sink))
        self._unseen_slots += needs.slots
        self._unseen_blocks += needs.kv_blocks
        return request_id

    def cancel(self, request_id: int) -> None:
        """End the request; its sink hears nothing more. No-op for one that has ended."""
        if self._close(request_id) and self._transport:
            self._transport.write(wire.pack(wire.Cancel(request_id)))

    def cancel_choice(self, request_id: int, choice: int) -> None:
        """End one choice of a request that goes on; its sink hears of the `cancelled` finish."""
        if request_id in self._open and self._transport:
            self._transport.write(wire.pack(wire.Cancel(request_id, choice)))

    async def adapt(self, load: Sequence[AdapterSource], unload: Sequence[str] = ()) -> dict[str, str]:
        """Have the replica take requests for these adapters, and none for those. Returns the reasons of those that it
        refuses, by id. Raises `Unavailable` when it is lost."""
        if self._transport is None:
            raise Unavailable(f"replica {self.replica}: {self.lost.result()}", retry_after_s=1.0)
        self._last_adapting = number = self._last_adapting + 1
        done: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._adapting[number] = done
        self._transport.write(wire.pack(wire.Adapter(number, tuple(load), tuple(unload))))
        return await done

    def figures(self) -> "asyncio.Future[None]":
        """Done when the replica next tells its figures. From within a sink's `on_finish`: they count that request."""
        if self._told is None:
            self._told = asyncio.get_running_loop().create_future()
        return self._told

    def available(self) -> Credit:
        """What the replica can take on: its credit, less the submits that it had not counted when it told it, and what
        is on its way there from other gateway processes."""
        credit = self._credit
        return Credit(
            credit.slots - self._unseen_slots - self.loans.slots,
            credit.kv_blocks - self._unseen_blocks - self.loans.kv_blocks,
            credit.seen,
            credit.batch_slots,
            credit.batch_kv_blocks,
        )

    def close(self, reason: str) -> None:
        """Give the replica up: each open sink hears `on_lost`, and whatever still comes is dropped."""
        if self._transport:
            self._transport.abort()
        self._lose(reason)

    # --- what the replica says ------------------------------------------------------------------------------------

    def _on_step(self, step: wire.Step) -> None:
        self.steps_s.append(self.heard_s - self.stepped_s)
        self.stepped_s = self.heard_s
        requests = self._open
        for started in step.started:
            if request := requests.get(started.request):
                request.sink.on_started(started)
        for emission in step.emissions:
            if request := requests.get(emission.request):
                request.sink.on_emission(emission)
        for encoded in step.encoded:
            if sink := self._encoding.get(encoded.request):
                sink.on_encoded(encoded)
        for finish in step.finishes:
            if request := requests.get(finish.request):
                request.unfinished -= 1
                if not request.unfinished:
                    self._close(finish.request)
                request.sink.on_finish(finish)
        self._on_credit(step.credit)

    def _on_credit(self, credit: Credit) -> None:
        before, self._credit = self._credit, credit
        if credit.seen - before.seen > len(self._unseen):
            raise wire.WireError(f"it has seen {credit.seen} submits, more than were sent")
        for _ in range(credit.seen - before.seen):
            needs, sink = self._unseen.popleft()
            self._unseen_slots -= needs.slots
            self._unseen_blocks -= needs.kv_blocks
            for callback in self.on_counted:
                callback(sink)
        if replace(credit, seen=0) != replace(before, seen=0) or credit.seen > before.seen:
            self._changed()

    def _close(self, request_id: int) -> _Open | None:
        """It has no place here any more."""
        self._encoding.pop(request_id, None)
        return self._open.pop(request_id, None)

    def _on_frame(self, frame: wire.Up) -> None:
        """What is not on the hot path."""
        if isinstance(frame, wire.Grant):
            self._on_credit(frame.credit)
        elif isinstance(frame, wire.Stats):
            self._on_stats(frame.stats)
        elif isinstance(frame, wire.Lost):
            if request := self._close(frame.request):
                request.sink.on_lost(frame.reason)
        elif isinstance(frame, wire.Drain):
            self.draining = True
            self._changed()
        elif isinstance(frame, wire.Adapted):
            done = self._adapting.pop(frame.number, None)
            if done is not None and not done.done():
                done.set_result(dict(frame.refused))
        elif isinstance(frame, wire.Hello):
            self._on_hello(frame)

    def _on_hello(self, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL:
            raise wire.WireError(f"it speaks protocol {hello.protocol}, not {wire.PROTOCOL}")
        if self._greeted.done():
            raise wire.WireError("it said hello twice")
        self._last_id = hello.first_id
        self._credit = hello.credit
        self._greeted.set_result(hello)

    def _on_stale(self, frame: wire.Up) -> None:
        """Another epoch's word counts for nothing; as the first word, it tells that the wrong process listens here."""
        log.warning("stale_frame", replica=self.replica, epoch=frame.epoch, expected=self.epoch)
        if not self._greeted.done():
            self.close(f"epoch {frame.epoch} answered instead of {self.epoch}")

    def _on_stats(self, stats: EngineStats) -> None:
        idle = not (self._open or stats.running or stats.waiting or stats.planned_tokens)
        loads = stats.loading and not stats.running
        if stats.steps != self.stats.steps or idle or loads:  # a loan may end later than its work
            self.stepped_s = self.heard_s
        self.stats = stats
        if self._told is not None and not self._told.done():
            self._told.set_result(None)
        self._told = None
        now = self.heard_s
        if self._rated is None:
            self._rated = (now, stats)
        since_s, before = self._rated
        if now - since_s < _RATE_INTERVAL_S:
            return
        self._rated = (now, stats)
        self.tokens_per_s = (stats.generated_tokens - before.generated_tokens) / (now - since_s)
        if stats.steps > before.steps:
            self.step_s = (stats.step_s - before.step_s) / (stats.steps - before.steps)
        if stats.step_tokens > before.step_tokens:
            self.token_s.append((stats.step_s - before.step_s) / (stats.step_tokens - before.step_tokens))

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    def _lose(self, reason: str) -> None:
        if self.lost.done():
            return
        self._transport = None
        self.lost.set_result(reason)
        if not self._greeted.done():
            self._greeted.set_exception(Unavailable(f"replica {self.replica}: {reason}", retry_after_s=1.0))
        for done in self._adapting.values():
            if not done.done():
                done.set_exception(Unavailable(f"replica {self.replica}: {reason}", retry_after_s=1.0))
        self._adapting.clear()
        self._changed()  # first, so that no request that is told here comes back to this link
        requests, self._open = self._open, {}
        self._encoding.clear()
        for request in requests.values():
            request.sink.on_lost(reason)

    # --- asyncio.BufferedProtocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbox.room()

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_s = monotonic()
        try:
            for payload in self._inbox.frames(nbytes):
                frame = wire.decode_up(payload)
                if frame.epoch != self.epoch:
                    self._on_stale(frame)
                elif type(frame) is wire.Step:
                    self._on_step(frame)
                else:
                    self._on_frame(frame)
        except (wire.WireError, msgspec.MsgspecError) as error:
            log.warning("malformed_frame", replica=self.replica, error=str(error))
            self.close(f"malformed frame: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(str(exc) if exc else "the replica closed the connection")


def demand(request: EngineRequest, block_size: int) -> Credit:
    """The slots, and the KV blocks of what is known of a request: its prompt once, and each choice's own tokens."""
    return needs_of(len(request.prompt), [len(choice.emitted) for choice in request.choices], block_size)


def needs_of(prompt_tokens: int, emitted_tokens: Sequence[int], block_size: int) -> Credit:
    """As `demand`; a number of emitted tokens for each choice."""
    blocks = -(-prompt_tokens // block_size) + sum(-(-(emitted + 1) // block_size) for emitted in emitted_tokens)
    return Credit(len(emitted_tokens), blocks)
