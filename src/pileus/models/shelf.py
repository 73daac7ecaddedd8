"""What lies in the artefacts folder, as the registry looks at it: manifests by name, read again where they changed."""

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from pileus.models.artefact import MANIFEST, Manifest
from pileus.models.signature import CARD, SIGNATURE


class Shelved(Struct, frozen=True, kw_only=True):
    """An installed artefact. Its card and its signature are empty where it has none with it."""

    name: str
    folder: Path
    manifest: Manifest
    sha256: str  # of the manifest
    size_bytes: int
    changed_at: float
    card: bytes
    signature: bytes


class Shelf:
    """Methods block; several threads may call them at once."""

    def __init__(self, artefacts: Path) -> None:
        self._artefacts = artefacts
        self._seen: dict[str, tuple[tuple[int, int, int], Shelved]] = {}  # by name: as the manifest was then

    def all(self) -> dict[str, Shelved]:
        """By name; what is not readable is left out, whoever serves it will be told."""
        folders = self._artefacts.iterdir() if self._artefacts.is_dir() else ()
        found = {folder.name: shelved for folder in folders if (shelved := self.find(folder.name))}
        self._seen = {name: seen for name, seen in self._seen.items() if name in found}
        return found

    def find(self, name: str) -> Shelved | None:
        folder = self._artefacts / name
        try:
            stat = (folder / MANIFEST).stat()
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            seen = self._seen.get(name)
            if seen is None or seen[0] != mark:
                seen = self._seen[name] = (mark, _read(folder, stat.st_mtime))
        except (OSError, msgspec.MsgspecError):
            return None
        return seen[1]


def _read(folder: Path, changed_at: float) -> Shelved:
    raw = (folder / MANIFEST).read_bytes()
    manifest = msgspec.json.decode(raw, type=Manifest)
    return Shelved(
        name=folder.name,
        folder=folder,
        manifest=manifest,
        sha256=hashlib.sha256(raw).hexdigest(),
        size_bytes=sum(file.size for file in manifest.files.values()),
        changed_at=changed_at,
        card=_optional(folder / CARD),
        signature=_optional(folder / SIGNATURE),
    )


def _optional(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
