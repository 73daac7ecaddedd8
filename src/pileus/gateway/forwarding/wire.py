"""What a gateway process and the owner of scheduling say to each other.

Frames as between gateway and replica (`engines.replica.wire`). Both run the same code on the same machine, so there is
no version to agree on, and monotonic times mean the same. A request has a number of its gateway's choice. It gets a
`turn` with each place; what is said of an earlier turn is late and counts for nothing.
"""

import msgspec
from msgspec import Struct

from pileus.core.errors import Overloaded, PileusError, revive
from pileus.core.records import AuditEvent, Lane
from pileus.fleet.records import DeploymentInfo, ServedAdapter
from pileus.observability.figures import RequestFigures
from pileus.scheduling.traffic import Arm
from pileus.store.tables import ApiKey

# --- up: gateway -> owner -------------------------------------------------------------------------------------------


class Open(Struct, frozen=True, array_like=True, tag=1):
    """This gateway takes connections now."""

    gateway: int
    pid: int


class Admit(Struct, frozen=True, array_like=True, tag=2):
    """A request asks for its turn."""

    number: int
    key_id: str
    deployment: str
    request_id: str
    operation: str
    requested_model: str
    traceparent: str | None
    lane: Lane
    priority: int
    due: float | None  # monotonic
    prompt_tokens: int
    choices: int
    max_answer_tokens: int
    prefix: tuple[int, ...]
    adapter: str = ""  # its name


class Progress(Struct, frozen=True, array_like=True, tag=3):
    """Replicas have counted these requests into their credit, and begun to answer those: each by number and turn."""

    counted: list[tuple[int, int]]
    started: list[tuple[int, int]]


class Requeue(Struct, frozen=True, array_like=True, tag=4):
    """It lost its place and goes on elsewhere, from what its unfinished choices have said."""

    number: int
    turn: int
    emitted: tuple[int, ...]  # tokens of each unfinished choice


class Ended(Struct, frozen=True, array_like=True, tag=5):
    """It is over."""

    number: int
    outcome: str
    figures: RequestFigures


class TurnedDown(Struct, frozen=True, array_like=True, tag=6):
    """A request was refused before it was one: for the figures, and for the audit if there is something to tell."""

    code: str | None  # None where it is on the books already
    event: AuditEvent | None


# --- down: owner -> gateway -----------------------------------------------------------------------------------------


class Key(Struct, frozen=True, array_like=True, tag=16):
    """A key that is new or has changed."""

    digest: bytes
    key: ApiKey


class Offer(Struct, frozen=True, array_like=True, tag=17):
    """A deployment, and where its tokenizer is; None for the fake model's."""

    info: DeploymentInfo
    model_path: str | None


class Withdraw(Struct, frozen=True, array_like=True, tag=18):
    """A deployment is not offered any more."""

    deployment: str


class Up(Struct, frozen=True, array_like=True, tag=19):
    """A replica takes requests there."""

    deployment: str
    replica: str
    epoch: int
    address: str


class Down(Struct, frozen=True, array_like=True, tag=20):
    """A replica is gone, or must be given up."""

    replica: str
    epoch: int
    reason: str


class Known(Struct, frozen=True, array_like=True, tag=21):
    """All that there is was said; what follows are changes."""


class Accepted(Struct, frozen=True, array_like=True, tag=22):
    """The request waits; `starting_s` as `fleet.directory.Directory` tells it."""

    number: int
    starting_s: float | None


class Refused(Struct, frozen=True, array_like=True, tag=23):
    """The request does not wait, and owes nothing."""

    number: int
    code: str
    message: str
    param: str | None
    retry_after_s: float


class Placed(Struct, frozen=True, array_like=True, tag=24):
    """Its turn: send it to that replica, in that lane."""

    number: int
    turn: int
    replica: str
    epoch: int
    lane: Lane


class Preempt(Struct, frozen=True, array_like=True, tag=25):
    """Take it from its replica; it waits again."""

    number: int
    turn: int


class Expired(Struct, frozen=True, array_like=True, tag=26):
    """It waited too long."""

    number: int


class Displaced(Struct, frozen=True, array_like=True, tag=27):
    """It had to leave the queue."""

    number: int
    code: str
    message: str
    retry_after_s: float


class Adapters(Struct, frozen=True, array_like=True, tag=28):
    """The adapters that a deployment serves from now on: these, and no others."""

    deployment: str
    adapters: tuple[ServedAdapter, ...]


class Route(Struct, frozen=True, array_like=True, tag=29):
    """A public name's requests go to these deployments; without any, it is a name as any other."""

    name: str
    arms: tuple[Arm, ...]


FromGateway = Open | Admit | Progress | Requeue | Ended | TurnedDown
News = Key | Offer | Withdraw | Adapters | Route | Known
FromOwner = News | Up | Down | Accepted | Refused | Placed | Preempt | Expired | Displaced

decode_from_gateway = msgspec.msgpack.Decoder(FromGateway).decode
decode_from_owner = msgspec.msgpack.Decoder(FromOwner).decode


def refused(number: int, error: PileusError) -> Refused:
    """The frame that tells of an error."""
    param, retry_after_s = getattr(error, "param", None), getattr(error, "retry_after_s", 1.0)
    return Refused(number, error.code, error.message, param, retry_after_s)


def displacement(frame: Displaced) -> Overloaded:
    """The error that a frame tells of."""
    error = revive(frame.code, frame.message, retry_after_s=frame.retry_after_s)
    return error if isinstance(error, Overloaded) else Overloaded(frame.message, retry_after_s=frame.retry_after_s)
