"""Ports: what a room needs from one below or beside it, named for the need. Adapters meet them in `bootstrap`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from pileus.core.records import (
    AuditEvent,
    Capabilities,
    Emission,
    Encoded,
    EncodeRequest,
    Encoding,
    EngineRequest,
    EngineStats,
    Finish,
    Frame,
    Message,
    Principal,
    Started,
    StepOutput,
    UsageRecord,
)


class Hosted(Protocol):
    """What a replica's process needs of the model that it hosts.

    What is submitted or cancelled may come from another thread than the one that iterates over `events`; it is only
    queued. An exception from `events` means that the engine is lost, and its replica ends.
    """

    def capabilities(self) -> Capabilities: ...

    def cancel(self, request_id: int, choice: int | None = None) -> None:
        """End the request, or that choice of it, before the next step.

        Each unfinished choice that is ended gets a `cancelled` finish. Unknown: no-op.
        """

    def events(self) -> Iterator[StepOutput]:
        """One item per engine step; blocks while there is nothing to do; ends after `close`."""
        ...

    def stats(self) -> EngineStats:
        """A snapshot; callable from any thread."""
        ...

    def close(self) -> None:
        """Let `events` end and free the model."""


class Engine(Hosted, Protocol):
    """A language model that takes token ids in and gives token ids out."""

    def submit(self, request: EngineRequest) -> None:
        """Take the request at the next step. One that cannot be run finishes with an error."""


class AdapterSource(Struct, frozen=True, array_like=True):
    """An adapter in the models folder. Other content has another id, whatever the name."""

    id: str
    path: str


class AdapterReader(Protocol):
    """Reads adapters; layers and targets as PEFT names them, e.g. (0, "q_proj")."""

    def shapes(self, path: Path) -> Mapping[tuple[int, str], tuple[int, int, int]]:
        """What each change takes, its rank, and what it gives; reads no weights. Raises `ModelRefused`."""
        ...

    def weights(self, path: Path) -> Any:
        """`models.low_rank.AdapterWeights`, every file checked against its manifest. Raises `ModelRefused`."""
        ...


class AdaptableEngine(Engine, Protocol):
    """What an engine meets whose `capabilities().adapters` is not 0. Both may block, and be called from any thread."""

    def load_adapter(self, source: AdapterSource) -> None:
        """Take requests for it from now on. Raises `ModelRefused` for one that cannot be served."""

    def unload_adapter(self, adapter: str) -> None:
        """Take no more; what runs with it goes on. Unknown: no-op."""


class Encoder(Hosted, Protocol):
    """A model that takes the ids of whole texts in and gives vectors or scores out.

    A request has one choice, and so one finish, after the step that encoded the last of its texts. Its answer is a pure
    function of it, whatever shares the batch, up to the rounding of the arithmetic.
    """

    def submit(self, request: EncodeRequest) -> None:
        """Take the request at the next step. One that cannot be run finishes with an error."""


class EngineSpec(Struct, frozen=True):
    """What a driver needs to open an engine: the verified artefact's folder, and its own validated options."""

    model: str
    model_path: Path | None  # None for engines that hold no weights here
    options: Any
    context_length: int = 0  # what the model was made for, in tokens; 0 is unknown
    adapters: AdapterReader | None = None


class EngineDriver(Struct, frozen=True):
    """An engine that bootstrap can offer under a name.

    `options` is the driver's own options type, a frozen pydantic model, so that configuration can be checked without
    loading the engine; `open` loads it, in the replica process.
    """

    name: str
    options: type[Any]
    open: Callable[[EngineSpec], Engine | Encoder]
    needs_model: bool = True


class Detokenizer(Protocol):
    """Turns one choice's ids to text as they come, never splitting a character."""

    def push(self, tokens: Sequence[int]) -> str:
        """Text that became certain with these tokens; may be empty."""
        ...

    def flush(self) -> str:
        """What is left at the end; an incomplete character becomes U+FFFD."""
        ...


class Tokenizer(Protocol):
    """Text to ids and back, for one model."""

    vocab_size: int
    context_length: int  # tokens the model was made for, prompt and answer together
    stop_ids: tuple[int, ...]  # end of turn, end of text

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; what looks like a special token stays text."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the rendered chat template, ready for the assistant's turn.

        Special tokens of the template are special; those in people's text stay text. Raises `InvalidRequest` where
        the template refuses the messages.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def token_text(self, token: int) -> tuple[str, bytes]:
        """One token by itself, as text (with U+FFFD for part of a character) and as bytes."""
        ...

    def detokenizer(self) -> Detokenizer: ...


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to the ids that an encoder takes, for one model."""

    encoding: Encoding

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, with special tokens around it; what looks like one in a text stays text."""
        ...

    def encode_pairs(self, first: str, seconds: Sequence[str]) -> list[tuple[list[int], int]]:
        """The ids of each pair, and at which token what belongs to its second text begins; 0 where the model does not
        tell them apart."""
        ...

    def shorten(self, ids: Sequence[int], length: int) -> list[int]:
        """A text, or a pair at the cost of its second, cut to so many tokens; the last special token stays."""
        ...

    def frame(self, first: str | None = None) -> Frame:
        """What stands around each text, or around each second text of the pairs with this first."""
        ...


class ReplicaSink(Protocol):
    """One request's ear on a replica. Called on the gateway's event loop, in the order of the engine's steps."""

    def on_started(self, started: Started) -> None: ...

    def on_emission(self, emission: Emission) -> None: ...

    def on_finish(self, finish: Finish) -> None: ...

    def on_lost(self, reason: str) -> None:
        """The replica is gone before the request's end; nothing more will come from it."""


class EncodeSink(ReplicaSink, Protocol):
    """The same for an encode request."""

    def on_encoded(self, encoded: Encoded) -> None: ...


class ReplicaStarter(Protocol):
    """A fleet backend: starts, stops and finds replica processes; tokens never pass through it."""

    async def start(self, command: "ReplicaCommand") -> "ReplicaHandle": ...


class ReplicaCommand(Struct, frozen=True, kw_only=True):
    """One replica to start. `spec` is what `pileus worker` reads from standard input as JSON."""

    replica: str  # e.g. "smollm2/0"
    epoch: int
    address: str  # where it shall listen, e.g. unix:/run/user/1000/pileus-x/0.sock
    spec: Mapping[str, Any]


class ReplicaHandle(Protocol):
    """A started replica process."""

    pid: int

    async def wait(self) -> int:
        """The exit status; negative for a signal."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and after `grace_s` seconds make it."""

    def tail(self) -> str:
        """The last lines that it printed, to explain a death."""
        ...


class Reservation(Struct):
    """The worst case of one request, held until `settle`."""

    principal: Principal
    tokens: int
    cost_micros: int


class Price(Struct, frozen=True):
    """Micro-units of money per million tokens."""

    prompt: int = 0
    completion: int = 0


class Ledger(Protocol):
    """Quota and money: reserved before work, settled after it. Both are in-memory and immediate."""

    def reserve(self, principal: Principal, price: Price, prompt_tokens: int, completion_tokens: int) -> Reservation:
        """Raises `QuotaExceeded` where the worst case does not fit into what is left."""
        ...

    def settle(self, reservation: Reservation, usage: UsageRecord) -> None:
        """Commit what was used, give back the rest, queue the usage row. Exactly once per reservation."""


class AuditSink(Protocol):
    """Where administrative acts and refusals are written."""

    def record(self, event: AuditEvent) -> None:
        """Durable when this returns. Raises `Unavailable` where it cannot be: then the act must not happen."""


class RefusalSink(Protocol):
    """Where refusals are noted; they have no effect that could run ahead of their record."""

    def refused(self, event: AuditEvent) -> None: ...
