"""A place where models are shared: a bucket, a web server, a folder. Contents lie there by their hash, once.

blobs/<sha256>                 a file of an artefact or of a master
models/<name>/<version>.json   which files a version has, under which names (`Release`); written last
models/<name>/index.json       which versions there are; made anew from the others at each push
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.models.artefact import FileDigest
from pileus.models.progress import Progress
from pileus.models.source import SourceFailed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, HTTPStore, LocalStore, RetryConfig, S3Store

_INDEX: Final = "index"
_TRIES: Final = 3
_PIECE_BYTES: Final = 1 << 20
_FORMAT: Final = 1

Record = TypeVar("Record", bound=Struct)


class Release(Struct, frozen=True, kw_only=True):
    """One version of a model in a mirror."""

    format: int = _FORMAT
    model: str
    version: str
    artefact: str
    kind: str
    licence: str
    manifest: str  # its sha256
    size_bytes: int
    pushed_at: float
    files: dict[str, FileDigest]  # of the artefact, with its manifest, its card and its signature
    master: dict[str, FileDigest] = {}  # of the Hugging Face folder that it was made of


class Listed(Struct, frozen=True):
    """A version, in a model's index."""

    version: str
    manifest: str
    size_bytes: int
    pushed_at: float


class Index(Struct, frozen=True):
    """The versions of a model, the latest push last."""

    versions: list[Listed]


class Mirror:
    """One place. Methods block, and raise `SourceFailed` where it cannot give or take."""

    def __init__(self, url: str, *, writes: bool = False) -> None:
        """`url` is `s3://bucket/prefix`, an http(s) address, or a folder."""
        self.url = url
        self._store = _open(url, writes=writes)

    # --- reading --------------------------------------------------------------------------------------------------

    def release(self, model: str, version: str = "") -> Release | None:
        """Of a version, or the one that was pushed last. None where it has no such thing."""
        if not version:
            index = self.index(model)
            if index is None or not index.versions:
                return None
            version = index.versions[-1].version
        found = self._read(_key(model, version), Release)
        if found is not None and (found.model, found.version) != (model, version):
            raise SourceFailed(f"it has {found.model}@{found.version} in the place of {model}@{version}")
        return found

    def index(self, model: str) -> Index | None:
        return self._read(_key(model, _INDEX), Index)

    def fetch(self, digest: FileDigest, target: Path, tell: Progress) -> None:
        """A blob to a file, gone on with where an earlier try broke off. Whoever calls checks its hash."""
        note = ""
        for attempt in range(_TRIES):
            have = target.stat().st_size if target.exists() else 0
            if have >= digest.size:
                if have > digest.size:
                    target.unlink()
                    continue
                return
            try:
                self._continue(digest, target, have, tell)
            except SourceFailed as failure:
                note = str(failure)
                if attempt and target.exists() and target.stat().st_size == have:
                    target.unlink()  # it cannot go on in the middle: from the start
        if not target.exists() or target.stat().st_size != digest.size:
            raise SourceFailed(note or f"it broke off before the {digest.size} bytes of {digest.sha256[:12]} had come")

    def _continue(self, digest: FileDigest, target: Path, have: int, tell: Progress) -> None:
        import obstore

        with self._answering(), target.open("ab") as file:
            options: Any = {"range": {"offset": have}} if have else {}
            found = obstore.get(self._store, _blob(digest.sha256), options=options)
            for piece in found.stream(min_chunk_size=_PIECE_BYTES):
                have += len(piece)
                if have > digest.size:
                    file.truncate(0)
                    raise SourceFailed(f"{digest.sha256[:12]} is larger there than it should be")
                file.write(memoryview(piece))
                tell("downloading", have, digest.size)

    # --- writing --------------------------------------------------------------------------------------------------

    def has(self, digest: FileDigest) -> bool:
        """Whether a blob of that hash and size is there."""
        import obstore

        try:
            with self._answering():
                return bool(obstore.head(self._store, _blob(digest.sha256))["size"] == digest.size)
        except FileNotFoundError:
            return False

    def put(self, digest: FileDigest, file: Path) -> None:
        import obstore

        with self._answering(), file.open("rb") as content:
            obstore.put(self._store, _blob(digest.sha256), content)

    def publish(self, release: Release) -> None:
        """Let a version appear, whose blobs are there. Raises `OperatorError` where that version is another model."""
        before = self.release(release.model, release.version)
        if before is not None and before.manifest != release.manifest:
            raise OperatorError(
                f"{self.url} has another {release.model}@{release.version}: push this one under another --version"
            )
        self._write(_key(release.model, release.version), release)
        found = [self._read(key, Release) for key in self._releases(release.model)]
        there = sorted((each for each in found if each is not None), key=lambda each: each.pushed_at)
        listed = [Listed(each.version, each.manifest, each.size_bytes, each.pushed_at) for each in there]
        self._write(_key(release.model, _INDEX), Index(listed))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _releases(self, model: str) -> list[str]:
        import obstore

        folder = _key(model, _INDEX).rpartition("/")[0]
        with self._answering():
            keys = [each["path"] for some in obstore.list(self._store, prefix=folder) for each in some]
        return [key for key in keys if key.endswith(".json") and key != _key(model, _INDEX)]

    def _read(self, key: str, kind: type[Record]) -> Record | None:
        import obstore

        try:
            with self._answering():
                raw = bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise SourceFailed(f"{key} there is malformed ({error})") from None

    def _write(self, key: str, record: Struct) -> None:
        import obstore

        with self._answering():
            obstore.put(self._store, key, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Says in one line what went wrong there; what is missing is a `FileNotFoundError`."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise SourceFailed(f"{self.url} does not answer ({str(error).partition(chr(10))[0][:200]})") from None


def _open(url: str, *, writes: bool) -> "S3Store | HTTPStore | LocalStore":
    from obstore.store import HTTPStore, LocalStore, S3Store

    retry: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    if url.startswith("s3://"):
        return S3Store.from_url(url, client_options=_client(environ.get("AWS_ENDPOINT_URL", "")), retry_config=retry)
    if url.startswith(("http://", "https://")):
        if writes:
            raise OperatorError(f"{url} can only be read: push to a bucket or to a folder")
        return HTTPStore.from_url(url, client_options=_client(url), retry_config=retry)
    folder = Path(url).expanduser()
    if not (writes or folder.is_dir()):
        raise SourceFailed(f"{folder} is no folder")
    return LocalStore(folder.absolute(), mkdir=writes)


def _client(endpoint: str) -> "ClientConfig":
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=300),
    }


def _blob(sha256: str) -> str:
    return f"blobs/{sha256}"


def _key(model: str, version: str) -> str:
    """Names have no `/`; a colon is not safe in every place."""
    return f"models/{model.replace(':', '__')}/{version.replace(':', '__')}.json"


def now() -> float:
    """When it is pushed, by this machine's clock."""
    return time.time()
