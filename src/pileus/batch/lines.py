"""One line of a batch's input as a request."""

from typing import Any, Final

import jiter
from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from pileus.batch.records import LineProblem, cut
from pileus.core.errors import CallerError

CUSTOM_ID_LIMIT: Final = 512  # characters
_FIELDS: Final = ("custom_id", "method", "url", "body")
_TYPES: Final = {str: "a string", dict: "an object"}


class LineRequest(Struct, frozen=True):
    """One line, as it asks."""

    custom_id: str
    method: str
    url: str
    body: Raw


class BadLine(CallerError):
    """A line that is no request."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code

    def at(self, number: int) -> LineProblem:
        return LineProblem(self.code, cut(self.message), number, None if self.param is None else cut(self.param))


_decoder = Decoder(LineRequest)


def decode_line(content: bytes) -> LineRequest:
    """A line that `check_line` has passed."""
    return _decoder.decode(content)


def check_line(content: bytes, endpoint: str) -> LineRequest:
    """A line as a request to that path; its body is still to be checked. Raises `BadLine`."""
    try:
        data = jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
        if not isinstance(data, dict):
            raise BadLine("invalid_json_line", "This line is not a JSON object.")
        _check_fields(data, endpoint)
        return decode_line(content)
    except (ValueError, DecodeError) as error:
        raise BadLine("invalid_json_line", f"This line is not valid JSON: {error}") from None


def _check_fields(data: dict[str, Any], endpoint: str) -> None:
    for name in data:
        if name not in _FIELDS:
            raise BadLine("invalid_request", f"`{name[:64]}` is not a field of a batch's line.", name[:64])
    for name, kind in zip(_FIELDS, (str, str, str, dict), strict=True):
        if name not in data:
            raise BadLine("missing_required_parameter", f"`{name}` is required.", name)
        if not isinstance(data[name], kind):
            raise BadLine("invalid_request", f"`{name}` should be {_TYPES[kind]}.", name)
    if not 1 <= len(data["custom_id"]) <= CUSTOM_ID_LIMIT:
        words = f"`custom_id` should have 1 to {CUSTOM_ID_LIMIT} characters."
        raise BadLine("invalid_request", words, "custom_id")
    if data["method"] != "POST":
        raise BadLine("invalid_request", "`method` should be POST.", "method")
    if data["url"] != endpoint:
        raise BadLine("url_mismatch", f"`url` should be the batch's endpoint, {endpoint}.", "url")
