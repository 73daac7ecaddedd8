"""What a kind of job is: what the owner must know of it, and what a worker runs."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct
from sqlalchemy import Connection

from pileus.core.errors import PileusError
from pileus.store.job_table import Job, Wish

MAX_RESULT_BYTES: Final = 48 << 20
MAX_CHECKPOINT_BYTES: Final = 32 << 20


class Kind(Struct, frozen=True, kw_only=True):
    """What the owner must know of a kind of job."""

    name: str
    places: int = 1  # jobs that one worker process has at the same time
    closes: bool = False  # cancelled or expired, its handler runs (once more) to keep what is finished
    retries: int | None = None  # failures in a row that are borne; None is the setting's
    grace_s: float = 300.0  # in which its handler does what was asked of it; then it is cut off
    keep_s: float | None = None  # after its end; None is the setting's
    lasting: frozenset[str] | None = None  # names in a job's folder that stay once it has ended for good; None: all
    spec: type[Struct] | None = None  # of those that people submit as jobs; None where another part of Pileus does
    on_ended: Callable[[Connection, Job], None] | None = None  # in the transaction that ends it, however it ends


class JobFailed(PileusError):
    """The job cannot be done, and trying it again would not help. `result` is what it leaves all the same."""

    code = "job_failed"

    def __init__(self, message: str = "", *, code: str | None = None, result: bytes = b"") -> None:
        super().__init__(message)
        self.code = code or self.code
        self.result = result


class TooLarge(JobFailed):
    """What the job gives cannot be kept."""

    code = "too_large"


class Context(Protocol):
    """One lease of a job, as its handler has it. A handler that does not do what is asked of it within its kind's
    `grace_s` is cancelled; if it goes on in spite of that, its process is killed."""

    job: Job  # as it was leased: `spec`, `checkpoint`, `fence`
    # The job's own; exists, and stays until the job is forgotten, or what of it is `lasting`. An earlier holder may
    # still write there.
    folder: Path

    @property
    def wish(self) -> Wish:
        """What was asked of it: a handler looks whenever it can stop. With `PAUSE` it makes a checkpoint and returns
        `YIELDED`; with `CANCEL` or `EXPIRE` it closes and returns its result. With `NONE` it goes on."""
        ...

    async def wished(self) -> Wish:
        """Return once something is asked; at once where it was."""
        ...

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        """Durable when this returns. Raises `LeaseLost`: then nothing that this handler does counts any more,
        or `TooLarge` for more than `MAX_CHECKPOINT_BYTES`."""
        ...

    def progress(self, stage: str, done: int, total: int) -> None:
        """For people; not durable."""
        ...

    def log(self, text: str, level: str = "info") -> None:
        """A line for people who look at the job."""
        ...


class Yielded:
    """The handler gives the job back, to be gone on with from its checkpoint."""


YIELDED = Yielded()

# Gives the result as JSON, of at most `MAX_RESULT_BYTES`. `JobFailed` ends the job; any other exception is tried again,
# after a while.
Handler = Callable[[Context], Awaitable[bytes | Yielded]]
