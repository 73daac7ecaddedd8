"""Reads a request body within its bounds and parses it once, strictly.

One parser serves both check and use: jiter (pydantic's own) refuses duplicate keys, lone surrogates, NaN and more than
200 levels of nesting; pydantic then checks types without converting any. What the models do not name is refused by
name, so no field is accepted and ignored.
"""

import asyncio
from typing import Any, TypeVar

import jiter
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive

from pileus.api.edge import Head
from pileus.api.errors import BodyTooSlow, UnsupportedMediaType
from pileus.core.errors import InvalidRequest, TooLarge

BODY_DEADLINE_S = 30.0


class WireForm(BaseModel):
    """A JSON object of a request: strict types, no unknown fields, finite numbers."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Form = TypeVar("Form", bound=WireForm)


async def read_body(head: Head, receive: Receive, max_bytes: int) -> bytes:
    """The whole body; refuses a type that is not JSON, and a length over the cap as soon as it is known."""
    _check_head(head.values, max_bytes)
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            return await _collect(receive, max_bytes)
    except TimeoutError:
        raise BodyTooSlow from None


def _check_head(values: dict[bytes, bytes], max_bytes: int) -> None:
    if values.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMediaType
    if values.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("a compressed request body is not supported")
    length = values.get(b"content-length", b"0")
    if not length.isdigit():
        raise InvalidRequest("the Content-Length header is not a number")
    if int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)


async def _collect(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the request body ended early")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else part


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {max_bytes} bytes")


def parse(form: type[Form], body: bytes) -> Form:
    """The body as this form, or an `InvalidRequest` that names what is wrong and where."""
    try:
        data = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if b"\\u0000" in body and _has_nul(data):
        raise InvalidRequest("the body has a NUL character in a string")
    try:
        return form.model_validate(data)
    except ValidationError as error:
        raise explain(error, data) from None


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(part) for item in value.items() for part in item)
    return isinstance(value, list) and any(map(_has_nul, value))


def explain(error: ValidationError, data: Any) -> InvalidRequest:
    """The most telling problem in a sentence.

    Where a field may have several forms, each form complains; the caller meant the one that got furthest.
    """
    problems = error.errors(include_url=False, include_input=False)
    worst = max(problems, key=lambda problem: _telling(problem, data))
    path = _path(worst, data)
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return InvalidRequest(_sentence(worst, name), param=name or None)


def _telling(problem: ErrorDetails, data: Any) -> tuple[bool, int, bool]:
    kind = problem["type"]
    return kind == "extra_forbidden", len(_path(problem, data)), not kind.endswith("_type")


def _path(problem: ErrorDetails, data: Any) -> list[str | int]:
    """The place in the caller's own words; pydantic's labels of union members are left out."""
    steps: list[str | int] = []
    for step in problem["loc"]:
        try:
            data = data[step]
        except (LookupError, TypeError):
            continue
        steps.append(step)
    if problem["type"] == "missing":
        steps.append(problem["loc"][-1])
    return steps


def _sentence(problem: ErrorDetails, name: str) -> str:
    field, message = f"`{name}`" if name else "the body", problem["msg"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{field} is not a field that this endpoint supports"
        case "missing":
            return f"{field} is required"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "model_type" | "dict_type":
            return f"{field} should be an object"
        case _:
            wanted = message.partition(" should ")[2].partition(" after validation")[0]
            return f"{field} should {wanted}" if wanted else f"{field}: {message}"
