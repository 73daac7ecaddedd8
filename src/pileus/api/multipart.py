"""Reads `multipart/form-data`: small fields into memory, the one file straight to where it goes.

Nothing is read ahead: the next bytes are taken from the connection when the last ones are written, so a form takes the
memory of one piece, however large its file is. What the form does not name is refused by name.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from pileus.api.edge import Head
from pileus.api.errors import UnsupportedMediaType
from pileus.api.patience import Patience
from pileus.api.presence import ClientLeft
from pileus.core.errors import InvalidRequest, TooLarge

FRAME_BYTES: Final = 64 * 1024  # of a form beside its file
_FIELD_BYTES: Final = 1024
_HEADERS_PER_PART: Final = 8
_HEADER_BYTES: Final = 4096
_PLAIN_ENCODINGS: Final = (b"", b"7bit", b"8bit", b"binary")

Write = Callable[[bytes], Awaitable[None]]


class FormField(Struct, frozen=True):
    """A field of a form: `read` takes its text and raises `InvalidRequest`; `schema` is its JSON Schema."""

    name: str
    read: Callable[[str], Any]
    schema: dict[str, Any]
    is_required: bool = False


class MultipartForm(Struct, frozen=True):
    """What a form may have: one file, and fields around it in any order."""

    file: str
    fields: tuple[FormField, ...] = ()
    read_filename: Callable[[str], str] = str

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema, as OpenAPI wants it."""
        required = [field.name for field in self.fields if field.is_required]
        return {
            "type": "object",
            "properties": {
                self.file: {"type": "string", "format": "binary"},
                **{field.name: field.schema for field in self.fields},
            },
            "required": [self.file, *required],
            "additionalProperties": False,
        }


class Filled(Struct, frozen=True):
    """A form that was read."""

    filename: str
    values: dict[str, Any]  # of the fields that it had, by name


async def read_form(form: MultipartForm, head: Head, receive: Receive, most_bytes: int, write: Write) -> Filled:
    """Read a form whose file has up to `most_bytes`, and `write` the file's bytes as they come.

    Raises `InvalidRequest`, `TooLarge`, `UnsupportedMediaType`, `BodyTooSlow`, `ClientLeft`.
    """
    reader = _Reader(form, _boundary(head.values))
    most = most_bytes + FRAME_BYTES
    _check_length(head.values, most)
    patience = Patience(receive)
    more = True
    while more:
        message = await patience.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        if patience.bytes > most:
            raise _too_large(most)
        for piece in reader.feed(body):
            await write(piece)
    return reader.filled()


def _boundary(values: dict[bytes, bytes]) -> bytes:
    kind, options = parse_options_header(values.get(b"content-type"))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("The body must be a form: send `content-type: multipart/form-data`.")
    if values.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("a compressed request body is not supported")
    if not options.get(b"boundary"):
        raise InvalidRequest("the Content-Type header has no boundary")
    return options[b"boundary"]


def _check_length(values: dict[bytes, bytes], most: int) -> None:
    length = values.get(b"content-length", b"0")
    if not length.isdigit():
        raise InvalidRequest("the Content-Length header is not a number")
    if int(length[:20]) > most:
        raise _too_large(most)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the request body is larger than {most} bytes")


class _Reader:
    """Takes a form apart as it comes."""

    def __init__(self, form: MultipartForm, boundary: bytes) -> None:
        self._form = form
        self._fields = {field.name: field for field in form.fields}
        self._values: dict[str, Any] = {}
        self._filename: str | None = None
        self._pieces: list[bytes] = []  # of the file, to be written
        self._field: FormField | None = None  # whose text comes now; None is the file's
        self._text = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._header = [bytearray(), bytearray()]
        self._is_over = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_part,
                    "on_part_data": self._take,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
                max_header_count=_HEADERS_PER_PART,
                max_header_size=_HEADER_BYTES,
            )
        except FormParserError as error:
            raise InvalidRequest(f"the form cannot be read: {error}") from None

    def feed(self, data: bytes) -> list[bytes]:
        """The file's bytes in these."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"the form cannot be read: {error}") from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def filled(self) -> Filled:
        """The form, once all of it has come."""
        if not self._is_over:
            raise InvalidRequest("the form ended early")
        if self._filename is None:
            raise InvalidRequest(f"`{self._form.file}` is required", param=self._form.file)
        for field in self._form.fields:
            if field.is_required and field.name not in self._values:
                raise InvalidRequest(f"`{field.name}` is required", param=field.name)
        return Filled(self._filename, self._values)

    def _end_header(self) -> None:
        name, value = (bytes(text) for text in self._header)
        self._header = [bytearray(), bytearray()]
        name = name.strip().lower()
        if name in self._headers:
            raise InvalidRequest("a part of the form has a header twice")
        self._headers[name] = value.strip()

    def _begin_part(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise InvalidRequest("a part of the form has no name")
        if self._headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS:
            raise InvalidRequest("an encoded part of a form is not supported")
        name = _text(options[b"name"], "a part's name")
        self._text.clear()
        self._field = self._fields.get(name)
        if self._field is None and name != self._form.file:
            raise InvalidRequest(f"`{name}` is not a field that this endpoint supports", param=name)
        if self._field is None:
            self._begin_file(options.get(b"filename"))
        elif name in self._values:
            raise InvalidRequest(f"`{name}` is there twice", param=name)

    def _begin_file(self, filename: bytes | None) -> None:
        name = self._form.file
        if self._filename is not None:
            raise InvalidRequest(f"`{name}` is there twice", param=name)
        if filename is None:
            raise InvalidRequest(f"`{name}` should be a file, with a filename", param=name)
        self._filename = self._form.read_filename(_text(filename, "the filename"))

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _FIELD_BYTES:
            raise InvalidRequest(f"`{self._field.name}` is too long", param=self._field.name)

    def _end_part(self) -> None:
        if self._field is not None:
            name = self._field.name
            self._values[name] = self._field.read(_text(bytes(self._text), f"`{name}`"))

    def _end(self) -> None:
        self._is_over = True


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what} is not UTF-8") from None
