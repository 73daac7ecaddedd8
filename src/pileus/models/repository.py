"""A repository of a Hugging Face compatible hub: a folder of safetensors, or one GGUF file of it. Every file is checked
by the hash that the hub states for it: sha256 of large files, git's own of the others."""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.models.artefact import digest_file
from pileus.models.hub import TOKEN_VARIABLE, credentials, download
from pileus.models.importing import kept
from pileus.models.progress import Progress
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore, require_space

_REFERENCE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.gguf))?(?:@(?P<revision>[\w./-]+))?")
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Reference(Struct, frozen=True):
    """`org/name`, `org/name@revision`, `org/name/file.gguf`."""

    repository: str
    file: str
    revision: str


class HubFile(Struct, frozen=True):
    name: str
    size: int
    sha256: str  # of a large file; else empty
    git: str  # git's hash of the blob, for the others

    def is_it(self, path: Path) -> bool:
        """Whether the file is what the hub says it is."""
        if self.sha256:
            return digest_file(path).sha256 == self.sha256
        raw = path.read_bytes()
        header = f"blob {len(raw)}\0".encode()
        return hashlib.sha1(header + raw, usedforsecurity=False).hexdigest() == self.git


class Listing(Struct, frozen=True):
    """A repository as it is at one commit."""

    commit: str
    licence: str
    files: list[HubFile]


def parse(reference: str) -> Reference | None:
    """None for what is no repository of a hub."""
    found = _REFERENCE.fullmatch(reference)
    return found and Reference(found["repository"], found["file"] or "", found["revision"] or "main")


def look_up(hub_url: str, wanted: Reference) -> Listing:
    """Raises `SourceFailed` where the hub does not know it."""
    base = hub_url.rstrip("/")
    url = f"{base}/api/models/{wanted.repository}/revision/{quote(wanted.revision, safe='')}?blobs=true"
    try:
        response = httpx.get(url, timeout=_TIMEOUT, follow_redirects=True, headers=credentials())
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceFailed(
                f"{wanted.repository} is not there, or not for everybody: then export {TOKEN_VARIABLE} where it runs"
            )
        if response.is_error:
            raise SourceFailed(f"{url} answers {response.status_code}")
        said = response.json()
        card = said.get("cardData") or {}
        return Listing(said["sha"], str(card.get("license") or ""), [_file(each) for each in said["siblings"]])
    except httpx.HTTPError as error:
        raise SourceFailed(f"{base} does not answer ({error or type(error).__name__})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SourceFailed(f"{url} does not answer like a hub ({error!r})") from None


def fetch(
    hub_url: str, wanted: Reference, listing: Listing, folder: Path, store: ModelStore, progress: Progress
) -> Path:
    """What is to be imported: the folder with the repository's files, or the one file. What was cut off goes on at the
    next call."""
    files = _chosen(wanted, listing)
    require_space(store.root, 2 * sum(file.size for file in files))
    base = f"{hub_url.rstrip('/')}/{wanted.repository}/resolve/{listing.commit}"
    total, done = sum(file.size for file in files), 0
    for file in files:
        start = done

        def tell(stage: str, so_far: int, _: int, start: int = start) -> None:
            progress(stage, start + so_far, total)

        partial = store.partial(file.sha256 or f"git-{file.git}")
        if file.size:
            download(f"{base}/{quote(file.name)}", partial, file.size, tell)
        else:
            partial.touch()
        if not file.is_it(partial):
            partial.unlink()
            raise SourceFailed(f"what the hub gives for {file.name} is broken, and was deleted; pull again")
        done += file.size
    # Only once all are here: until then a later pull finds each where it was left.
    for file in files:
        target = folder / (Path(file.name).name if wanted.file else file.name)
        target.parent.mkdir(exist_ok=True)
        store.partial(file.sha256 or f"git-{file.git}").rename(target)
    return folder / Path(wanted.file).name if wanted.file else folder


def _chosen(wanted: Reference, listing: Listing) -> list[HubFile]:
    if wanted.file:
        chosen = [file for file in listing.files if file.name == wanted.file]
        if not chosen:
            there = ", ".join(file.name for file in listing.files if file.name.endswith(".gguf")) or "none"
            raise OperatorError(f"{wanted.repository} has no {wanted.file}; its GGUF files: {there}")
        return chosen
    names = set(kept(file.name for file in listing.files))
    if not any(name.endswith(".safetensors") for name in names):
        there = ", ".join(file.name for file in listing.files if file.name.endswith(".gguf"))
        hint = f"name one of its GGUF files: {there}" if there else "only safetensors and GGUF are taken"
        raise OperatorError(f"{wanted.repository} has no safetensors: {hint}")
    return [file for file in listing.files if file.name in names]


def _file(said: dict[str, Any]) -> HubFile:
    large = said.get("lfs") or {}
    return HubFile(
        said["rfilename"],
        int(large.get("size", said["size"])),
        large.get("sha256", ""),
        "" if large else said["blobId"],
    )
