"""What the job of a background request is about."""

from typing import Final

from msgspec import Raw, Struct
from msgspec.json import decode

from pileus.core.records import Lane

KIND: Final = "background"
INLINE_BYTES: Final = 64 * 1024  # a larger body is a blob: many jobs are read, and leased, at the same time


class BackgroundSpec(Struct, frozen=True, kw_only=True):
    """A request as it came, checked, with what its headers wanted."""

    endpoint: str  # the path that it was sent to
    body: Raw = Raw(b"null")  # a JSON object
    blob: str = ""  # where the body is instead, if it is a large one
    model: str  # as the body names it
    request_id: str
    traceparent: str | None
    lane: Lane
    priority: int


class Refusal(Struct, frozen=True):
    """A failed request's checkpoint: what the endpoint would have answered instead, as JSON, and its code."""

    code: str
    body: Raw


def decode_spec(spec: bytes) -> BackgroundSpec:
    return decode(spec, type=BackgroundSpec)
