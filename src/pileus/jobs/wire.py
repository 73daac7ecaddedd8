"""What a worker process and the owner of jobs say to each other.

Frames as between a gateway process and the owner of scheduling, which run the same code on the same machine. Whatever
names a job names the fence of its lease too. What has a `number` is answered by `Done` or `Refused` with that number.

A lease carries the job's spec and its checkpoint, so the two together have to fit into a frame.
"""

from typing import Final

import msgspec
from msgspec import Struct

from pileus.store.job_table import Job, Wish

MAX_FRAME_BYTES: Final = 64 << 20

# --- up: worker -> owner ----------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """This process takes jobs of that kind."""

    kind: str
    pid: int


class Beat(Struct, frozen=True, array_like=True, tag=2):
    """It lives; every frame says so too."""


class Checkpoint(Struct, frozen=True, array_like=True, tag=3):
    number: int
    job: str
    fence: int
    body: bytes
    stage: str
    done: int
    total: int


class Progress(Struct, frozen=True, array_like=True, tag=4):
    job: str
    fence: int
    stage: str
    done: int
    total: int


class Line(Struct, frozen=True, array_like=True, tag=5):
    job: str
    fence: int
    level: str
    text: str


class Finish(Struct, frozen=True, array_like=True, tag=6):
    number: int
    job: str
    fence: int
    result: bytes


class Yield(Struct, frozen=True, array_like=True, tag=7):
    number: int
    job: str
    fence: int


class Fail(Struct, frozen=True, array_like=True, tag=8):
    number: int
    job: str
    fence: int
    code: str
    error: str
    retry: bool
    result: bytes = b""  # what it leaves all the same


class Leave(Struct, frozen=True, array_like=True, tag=9):
    """This process shall end by itself: give it nothing more, and say `Stop`."""


# --- down: owner -> worker --------------------------------------------------------------------------------------------


class Lease(Struct, frozen=True, array_like=True, tag=16):
    """A job to be done, under its present fence."""

    job: Job


class Wished(Struct, frozen=True, array_like=True, tag=17):
    """Something is asked of a job that this worker has; `NONE` takes it back."""

    job: str
    fence: int
    wish: Wish


class Done(Struct, frozen=True, array_like=True, tag=18):
    """It is on record."""

    number: int


class Refused(Struct, frozen=True, array_like=True, tag=19):
    number: int
    code: str
    message: str


class Drop(Struct, frozen=True, array_like=True, tag=21):
    """Cut that handler off: it had time to do what was asked of it."""

    job: str
    fence: int


class Stop(Struct, frozen=True, array_like=True, tag=20):
    """Give back what you have, and end."""


FromWorker = Hello | Beat | Checkpoint | Progress | Line | Finish | Yield | Fail | Leave
FromOwner = Lease | Wished | Done | Refused | Stop | Drop

decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
decode_from_owner = msgspec.msgpack.Decoder(FromOwner).decode
