"""Reads what `client` recorded, strictly: a figure rests on an answer that is whole and of the length asked for."""

from collections.abc import Iterator
from typing import Any

import httptools
import msgspec
from msgspec import Struct

from benchmarks.client import RawAnswer


class BadAnswer(Exception):
    """An answer that must not become a figure."""


class Timeline(Struct, frozen=True):
    """One request's life on the measuring clock, in seconds. `pieces_s` are the arrivals of text; a piece is one token
    or, when tokens came together, several; `tokens` is the engine's own count."""

    sent_s: float
    pieces_s: tuple[float, ...]
    tokens: int
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, in the engine's prefix cache


class Whole(Struct, frozen=True):
    """An answer that was not streamed."""

    sent_s: float
    done_s: float
    tokens: int
    headers: dict[str, str]


class Refused(Struct, frozen=True):
    """An answer that is none: the server said no before any work."""

    sent_s: float
    done_s: float
    status: int
    headers: dict[str, str]


class _Delta(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(Struct, frozen=True):
    completion_tokens: int
    prompt_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class _Event(Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


class _Response:
    """Takes the callbacks of the HTTP parser."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


def read_whole(raw: RawAnswer, tokens: int) -> Whole:
    """The figures of an answer that was not streamed, of exactly `tokens` tokens."""
    response = _Response()
    parser = httptools.HttpResponseParser(response)
    for _, data in raw.arrivals:
        parser.feed_data(data)
    body = b"".join(response.body)
    if parser.get_status_code() != 200 or not response.complete:
        raise BadAnswer(f"status {parser.get_status_code()}: {body[:300]!r}")
    event = _event.decode(body)
    if event.usage is None or event.usage.completion_tokens != tokens:
        raise BadAnswer(f"asked for {tokens} tokens, got {event.usage}")
    return Whole(raw.sent_s, raw.arrivals[-1][0], event.usage.completion_tokens, response.headers)


def read_stream(raw: RawAnswer, tokens: int) -> Timeline:
    """The timeline of a streamed answer of exactly `tokens` tokens, with its usage and its `[DONE]`."""
    pieces: list[float] = []
    usage: _Usage | None = None
    finished = done = False
    for at, payload in _events(raw):
        if done:
            raise BadAnswer("data after [DONE]")
        if payload == b"[DONE]":
            done = True
            continue
        event = _event.decode(payload)
        if event.error is not None:
            raise BadAnswer(f"an error in the stream: {payload[:300]!r}")
        usage = event.usage or usage
        if any(choice.text or (choice.delta and choice.delta.content) for choice in event.choices):
            pieces.append(at)
        finished = finished or any(choice.finish_reason == "length" for choice in event.choices)
    if not (done and finished and pieces) or usage is None or usage.completion_tokens != tokens:
        raise BadAnswer(f"{len(pieces)} pieces, finished {finished}, [DONE] {done}, usage {usage}; wanted {tokens}")
    return Timeline(raw.sent_s, tuple(pieces), usage.completion_tokens, usage.prompt_tokens, usage.cached_tokens)


def read_any(raw: RawAnswer, tokens: int) -> Timeline | Refused:
    """A streamed answer as `read_stream` reads it, or a refusal with 429 or 503."""
    response = _Response()
    parser = httptools.HttpResponseParser(response)
    parser.feed_data(raw.arrivals[0][1])
    if parser.get_status_code() in (429, 503):
        return Refused(raw.sent_s, raw.arrivals[-1][0], parser.get_status_code(), response.headers)
    return read_stream(raw, tokens)


def _events(raw: RawAnswer) -> Iterator[tuple[float, bytes]]:
    """Each `data:` payload with the time at which its last byte came."""
    response = _Response()
    parser = httptools.HttpResponseParser(response)
    rest = b""
    for at, data in raw.arrivals:
        parser.feed_data(data)
        if parser.get_status_code() != 200:
            raise BadAnswer(f"status {parser.get_status_code()}: {data[-300:]!r}")
        *lines, rest = (rest + b"".join(response.body)).split(b"\n")
        response.body.clear()
        for line in lines:
            if line.startswith(b"data:"):
                yield at, line[5:].strip()
    if not response.complete:
        raise BadAnswer("the response has no end")
