"""What a batch is made of: its job's spec, checkpoint and result, as JSON in the job's row. Times are wall clock."""

from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.json import Decoder

KIND: Final = "batch"
_TOLD: Final = 200  # characters


class Phase(StrEnum):
    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"


class BatchSpec(Struct, frozen=True, kw_only=True):
    """What was asked."""

    input_file_id: str
    blob: str  # the input's key
    bytes: int
    endpoint: str  # a path such as /v1/chat/completions
    completion_window: str  # in the caller's own words
    metadata: dict[str, str] | None = None
    output_expires_after_s: int | None = None


class Counts(Struct, frozen=True):
    """Lines."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class TokenSums(Struct, frozen=True):
    """Over all lines that were answered."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "TokenSums") -> "TokenSums":
        return TokenSums(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )


class LineProblem(Struct, frozen=True, omit_defaults=True):
    """Why the input was refused."""

    code: str
    message: str
    line: int | None = None  # from 1; None where it is the file
    param: str | None = None


def cut(text: str) -> str:
    """A text that a caller may have made as long as they like, at a length that can be told."""
    return text if len(text) <= _TOLD else text[: _TOLD - 1] + "\u2026"


class Extent(Struct, frozen=True):
    """The beginning of a file in the job's folder that counts; what lies behind it does not."""

    name: str
    length: int
    sha256: str  # of these bytes, in hexadecimal digits


class BatchCheckpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far it is. `plan` and `input` are there once the input was found to be in order."""

    phase: Phase = Phase.VALIDATING
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    cancelling_at: float | None = None
    model: str | None = None  # the deployment, where all lines ask for the same
    plan: Extent | None = None
    input: Extent | None = None
    segments: tuple[Extent, ...] = ()  # of the journal
    counts: Counts = Counts()
    usage: TokenSums = TokenSums()
    problems: tuple[LineProblem, ...] = ()


class ResultFile(Struct, frozen=True):
    """A file that a batch leaves."""

    blob: str
    bytes: int
    sha256: str


class BatchResult(Struct, frozen=True, kw_only=True):
    """What came of it."""

    output: ResultFile | None  # None where no line was answered
    errors: ResultFile | None  # None where no line failed
    counts: Counts
    usage: TokenSums


_spec, _checkpoint, _result = Decoder(BatchSpec), Decoder(BatchCheckpoint), Decoder(BatchResult)


def decode_spec(body: bytes) -> BatchSpec:
    return _spec.decode(body)


def decode_checkpoint(body: bytes) -> BatchCheckpoint:
    """Of a job that has made none yet, the beginning."""
    return _checkpoint.decode(body) if body else BatchCheckpoint()


def decode_result(body: bytes) -> BatchResult | None:
    """None for a job that left none."""
    return _result.decode(body) if body else None
