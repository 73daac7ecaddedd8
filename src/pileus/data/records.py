"""What goes through the room: a document as it was read, and a record that could not be."""

from msgspec import Struct


class Document(Struct, frozen=True):
    text: str
    place: str  # where it came from, for people: file, and line, row or address


class Bad(Struct, frozen=True):
    """A record that cannot be read, or is no document."""

    place: str
    reason: str


Record = Document | Bad
