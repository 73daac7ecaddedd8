"""Request traces: who asked for how much, and when.

    azure     CSV of Azure's LLM inference traces (TIMESTAMP,ContextTokens,GeneratedTokens)
    mooncake  JSON lines of Mooncake's traces; `hash_ids` name the prompt's blocks of 512 tokens, so that equal
              beginnings are known without the text
    usage     JSON lines of Pileus' own usage records

Readers stream; a line that is not what it should be is refused with its number.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.core.records import Lane, UsageRecord

MOONCAKE_BLOCK_TOKENS = 512
_AZURE_HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens"


class BadTrace(OperatorError):
    """This is not a trace of requests."""


class TraceFormat(StrEnum):
    AZURE = "azure"
    MOONCAKE = "mooncake"
    USAGE = "usage"


class TraceRequest(Struct, frozen=True):
    """One line of a trace."""

    at: float  # seconds; only differences mean something
    prompt_tokens: int  # at least 1, as the next
    answer_tokens: int
    blocks: tuple[int, ...] = ()  # names of the prompt's blocks, in order; equal names are equal content
    tenant: str = ""  # where the trace tells it
    lane: Lane = Lane.ON_DEMAND


def load(path: Path, trace_format: TraceFormat | None = None) -> list[TraceRequest]:
    """The whole trace in order of arrival. Raises `BadTrace`."""
    requests = sorted(read(path, trace_format), key=lambda request: request.at)
    if not requests:
        raise BadTrace(f"{path} has no requests in it")
    return requests


def read(path: Path, trace_format: TraceFormat | None = None) -> Iterator[TraceRequest]:
    """One request after the other, as they stand in the file; its format is told from the first line where none is
    given. Raises `BadTrace`."""
    with path.open("rb") as file:
        first = file.readline()
        parse = _PARSERS[trace_format or _told_by(first, path)]
        if parse is _azure and not first.strip().startswith(_AZURE_HEADER):
            raise BadTrace(f"{path}, line 1: an Azure trace begins with {_AZURE_HEADER.decode()}")
        if parse is not _azure:
            file.seek(0)
        for number, line in enumerate(file, start=2 if parse is _azure else 1):
            if line.isspace():
                continue
            try:
                request = parse(line)
            except (ValueError, msgspec.MsgspecError) as error:
                raise BadTrace(f"{path}, line {number}: {error}") from None
            if request is not None:
                yield request


def _told_by(line: bytes, path: Path) -> TraceFormat:
    if line.startswith(_AZURE_HEADER):
        return TraceFormat.AZURE
    if b'"hash_ids"' in line:
        return TraceFormat.MOONCAKE
    if b'"request_id"' in line:
        return TraceFormat.USAGE
    raise BadTrace(f"{path}, line 1: neither an Azure nor a Mooncake trace, nor an export of usage")


def _azure(line: bytes) -> TraceRequest:
    fields = line.decode().split(",")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} fields where 3 should be")
    at = datetime.fromisoformat(fields[0])
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _request(at.timestamp(), int(fields[1]), int(fields[2]))


class _MooncakeLine(Struct):
    timestamp: float  # milliseconds
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


_mooncake_line = msgspec.json.Decoder(_MooncakeLine).decode
_usage_line = msgspec.json.Decoder(UsageRecord).decode


def _mooncake(line: bytes) -> TraceRequest:
    told = _mooncake_line(line)
    return _request(told.timestamp / 1000, told.input_length, told.output_length, told.hash_ids)


def _usage(line: bytes) -> TraceRequest | None:
    """None for a request of which nothing was computed: how much it asked for is not on record."""
    told = _usage_line(line)
    if told.prompt_tokens == 0:
        return None
    return _request(
        told.at - told.total_s, told.prompt_tokens, told.completion_tokens, tenant=told.tenant, lane=told.lane
    )


def _request(
    at: float,
    prompt_tokens: int,
    answer_tokens: int,
    blocks: tuple[int, ...] = (),
    tenant: str = "",
    lane: Lane = Lane.ON_DEMAND,
) -> TraceRequest:
    """An answer of no tokens takes a step, as one of one token does."""
    if prompt_tokens < 1:
        raise ValueError(f"a prompt of {prompt_tokens} tokens")
    if answer_tokens < 0:
        raise ValueError(f"an answer of {answer_tokens} tokens")
    return TraceRequest(at, prompt_tokens, max(1, answer_tokens), blocks, tenant, lane)


_PARSERS: Mapping[TraceFormat, Callable[[bytes], TraceRequest | None]] = {
    TraceFormat.AZURE: _azure,
    TraceFormat.MOONCAKE: _mooncake,
    TraceFormat.USAGE: _usage,
}
