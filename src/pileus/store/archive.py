"""The tar archive of a backup: members one after the other, then what seals them.

The last two members are `manifest.json`, which has the size and the SHA-256 of every member before it, and
`manifest.sha256`, which has the manifest's own. So an archive can be sent while it is made, and one that was cut or
changed anywhere cannot pass for whole. `tar` can list and unpack it.

Only plain files are written and only plain files are read. A name is looked at before anything is done with it: it
never leads out of a folder.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from typing import Protocol

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import decode, encode

from pileus.core.errors import OperatorError

MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
FORMAT = 1
PIECE = 1024 * 1024  # bytes

_BLOCK = 512  # bytes; everything in a tar archive starts at a multiple of it
_END = bytes(2 * _BLOCK)
_NAME_LIMIT = 4096  # bytes
_MANIFEST_LIMIT = 1024**3  # bytes

_ADVICE = "take another copy of the backup, or an older one"


class Readable(Protocol):
    """A file that is read once, from its beginning."""

    def read(self, size: int, /) -> bytes:
        """As many bytes, or what is left."""
        ...


class Sealed(Struct, frozen=True):
    """What the manifest says of one member."""

    name: str
    bytes: int
    sha256: str  # in hexadecimal digits


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup is made of, and of what."""

    format: int = FORMAT
    pileus: str  # the version that made it
    schema: str  # of its database
    made_at: float  # wall clock
    blobs: str | None = None  # where contents are kept that are not in the data folder, as the settings say it
    absent: tuple[str, ...] = ()  # keys of contents that the database names and that the data folder does not have
    damaged: tuple[str, ...] = ()  # keys of contents that are not any more what was stored
    members: tuple[Sealed, ...] = ()


class Member:
    """One file on its way out of an archive. `pieces` is to be read to its end before the next member is asked for."""

    def __init__(self, file: Readable, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.digest = hashlib.sha256()
        self._file = file

    def pieces(self) -> Iterator[bytes]:
        left = self.size
        while left:
            piece = self._file.read(min(PIECE, left))
            if not piece:
                raise cut_off()
            left -= len(piece)
            self.digest.update(piece)
            yield piece
        wanted = padding(self.size)
        found = self._file.read(len(wanted))
        if len(found) < len(wanted):
            raise cut_off()
        if found != wanted:
            raise damaged(f"what follows {self.name!r} is not what was written")

    def whole(self, limit: int) -> bytes:
        if self.size > limit:
            raise damaged(f"{self.name} is too large")
        return b"".join(self.pieces())


def cut_off() -> OperatorError:
    return OperatorError(f"the archive ends too early; {_ADVICE}")


def damaged(what: str) -> OperatorError:
    return OperatorError(f"the archive is damaged: {what}; {_ADVICE}")


def foreign(why: str) -> OperatorError:
    return OperatorError(f"this is no backup that `pileus backup` made ({why})")


# --- writing ---------------------------------------------------------------------------------------------------------


def header(name: str, size: int, made_at: float) -> bytes:
    """What stands before a member's bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(made_at)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """What stands behind them."""
    return bytes(-size % _BLOCK)


def seal(manifest: Manifest) -> Iterator[bytes]:
    """The end of an archive."""
    content = encode(manifest)
    digest = hashlib.sha256(content).hexdigest().encode()
    for name, text in ((MANIFEST, content), (SEAL, digest)):
        yield header(name, len(text), manifest.made_at) + text + padding(len(text))
    yield _END


# --- reading ---------------------------------------------------------------------------------------------------------


class Reader:
    """Reads an archive from its beginning. `manifest` is set once `members` has ended: then the archive is whole."""

    def __init__(self, file: Readable) -> None:
        self.manifest: Manifest | None = None
        self._file = file

    def members(self) -> Iterator[Member]:
        """Every member but the last two, which are compared with what was read.

        Raises `OperatorError` for an archive that is foreign, cut off or damaged, at the latest at its end.
        """
        found: dict[str, Sealed] = {}
        for member in _raw_members(self._file):
            if member.name == MANIFEST:
                self.manifest = _checked_end(self._file, member, tuple(found.values()))
                return
            if member.name in found:
                raise damaged(f"{member.name!r} is there twice")
            yield member
            found[member.name] = Sealed(member.name, member.size, member.digest.hexdigest())
        raise cut_off()


def _raw_members(file: Readable) -> Iterator[Member]:
    first = True
    long_name = None
    while (block := file.read(_BLOCK)) != bytes(_BLOCK):
        if len(block) < _BLOCK:
            raise foreign("it is no tar archive") if first else cut_off()
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            raise foreign("it is no tar archive") if first else damaged("a header is not readable") from None
        member = Member(file, long_name or info.name, info.size)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            long_name = _text(member.whole(_NAME_LIMIT)).rstrip("\0")
            continue
        if info.type != tarfile.REGTYPE or info.size < 0:
            raise foreign(f"{member.name!r} is no plain file")
        first, long_name = False, None
        yield member


def _checked_end(file: Readable, member: Member, found: tuple[Sealed, ...]) -> Manifest:
    content = member.whole(_MANIFEST_LIMIT)
    last = next(_raw_members(file), None)
    if last is None or last.name != SEAL:
        raise cut_off()
    if last.whole(_BLOCK) != member.digest.hexdigest().encode():
        raise damaged(f"{MANIFEST} is not what was written")
    manifest = _decoded(content)
    if manifest.format != FORMAT:
        raise foreign(f"its format is {manifest.format}, this Pileus reads {FORMAT}; run a newer one")
    for stated, read in zip(manifest.members, found, strict=False):
        if stated != read:
            raise damaged(f"{stated.name!r} is not what was written")
    if len(manifest.members) != len(found):
        raise damaged("it has other members than were written")
    if len(end := file.read(len(_END) + 1)) < len(_END):
        raise cut_off()
    if end != _END:
        raise damaged("something stands behind its end")
    return manifest


def _decoded(content: bytes) -> Manifest:
    try:
        return decode(content, type=Manifest)
    except (DecodeError, ValidationError):
        raise damaged(f"{MANIFEST} is not readable") from None


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise damaged("a name is not readable") from None
