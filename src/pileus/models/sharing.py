"""Push an artefact to a mirror, and pull one from there: each content once, whatever was cut off gone on with, and
nothing installed that is not byte for byte what was pushed."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pileus.config.settings import NAME_PATTERN
from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.artefact import MANIFEST, Artefact, FileDigest, digest_file, verify
from pileus.models.importing import files_of, kept, link
from pileus.models.mirror import Mirror, Release, now
from pileus.models.progress import Progress
from pileus.models.signature import CARD, SIGNATURE
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore, require_space


def push(
    store: ModelStore, name: str, mirror: Mirror, version: str, progress: Progress, *, with_master: bool
) -> Release:
    """Share an installed artefact as that version of its model. What is there already is not sent again.

    Raises `ModelRefused` for one that is damaged, `SourceFailed` where the mirror does not take it.
    """
    artefact = store.artefact(name)
    if artefact is None:
        raise OperatorError(f"{name} is not installed")
    if not re.fullmatch(NAME_PATTERN, version):
        raise OperatorError(f"{version!r} is no version: letters, digits and . _ - : only")
    progress("verifying", 0, 0)
    verify(artefact.path)
    beside = [file for file in (MANIFEST, CARD, SIGNATURE) if (artefact.path / file).exists()]
    files = artefact.manifest.files | {file: digest_file(artefact.path / file) for file in beside}
    master = store.master(name) if with_master else None
    of_master = {name: digest_file(master / name) for name in kept(files_of(master))} if master else {}
    _send(mirror, [(artefact.path, files)] + ([(master, of_master)] if master else []), progress)
    release = Release(
        model=artefact.manifest.model or name,
        version=version,
        artefact=name,
        kind=artefact.manifest.kind,
        licence=artefact.licence,
        manifest=files[MANIFEST].sha256,
        size_bytes=artefact.size_bytes,
        pushed_at=now(),
        files=files,
        master=of_master,
    )
    mirror.publish(release)
    return release


def _send(mirror: Mirror, parts: list[tuple[Path, dict[str, FileDigest]]], progress: Progress) -> None:
    total = sum(digest.size for _, files in parts for digest in files.values())
    done = 0
    for folder, files in parts:
        for name, digest in files.items():
            progress("uploading", done, total)
            if not mirror.has(digest):
                mirror.put(digest, folder / name)
            done += digest.size
    progress("uploading", total, total)


def pull(
    store: ModelStore, release: Release, mirror: Mirror, progress: Progress, *, with_master: bool = True
) -> Artefact:
    """Install what a mirror has. Call while holding the lock of the artefact's name.

    Raises `ModelRefused` for what is not what it says, `SourceFailed` where the mirror does not give it.
    """
    _check(release)
    master = release.master if with_master else {}
    wanted = {digest.sha256: digest for digest in (*release.files.values(), *master.values())}
    require_space(store.root, sum(digest.size for digest in wanted.values()))
    here = _Finder(store)
    fetched = _fetch_all(store, wanted.values(), here.find, mirror, progress)
    progress("installing", 0, 0)
    with store.scratch(release.artefact) as scratch:
        folders = {"artefact": release.files, "master": master}
        for part, files in folders.items():
            (scratch / part).mkdir()
            for name, digest in files.items():
                (scratch / part / name).parent.mkdir(exist_ok=True)
                link(fetched[digest.sha256], scratch / part / name)
        if verify(scratch / "artefact").name != release.artefact:
            raise ModelRefused(f"{mirror.url} has an artefact of another name in the place of {release.artefact}")
        if master:
            store.keep_master(scratch / "master", release.artefact)
        artefact = store.install(scratch / "artefact", release.artefact)
    for sha256 in wanted:
        store.drop_blob(sha256)  # it lies in the artefact now
    return artefact


def _fetch_all(
    store: ModelStore,
    wanted: Iterable[FileDigest],
    find: Callable[[FileDigest], Path | None],
    mirror: Mirror,
    progress: Progress,
) -> dict[str, Path]:
    """Each content by its hash: as it lies here already, or fetched and checked."""
    digests = list(wanted)
    total, done = sum(digest.size for digest in digests), 0
    found: dict[str, Path] = {}
    for digest in digests:
        start = done

        def tell(stage: str, so_far: int, _: int, start: int = start) -> None:
            progress(stage, start + so_far, total)

        path = store.blob(digest.sha256) or find(digest)
        found[digest.sha256] = path or _fetch(store, digest, mirror, tell)
        done += digest.size
    progress("downloading", total, total)
    return found


def _fetch(store: ModelStore, digest: FileDigest, mirror: Mirror, tell: Progress) -> Path:
    partial = store.partial(digest.sha256)
    try:
        if digest.size:
            mirror.fetch(digest, partial, tell)
        else:
            partial.touch()
    except FileNotFoundError:
        raise SourceFailed(f"{mirror.url} lacks {digest.sha256[:12]}, which the version should have") from None
    if digest_file(partial) != digest:
        partial.unlink()
        raise SourceFailed(f"what {mirror.url} gives for {digest.sha256[:12]} is broken, and was deleted; pull again")
    return store.keep_blob(partial, digest.sha256)


def _check(release: Release) -> None:
    """What comes from elsewhere is no path of ours."""
    if not re.fullmatch(NAME_PATTERN, release.artefact):
        raise ModelRefused(f"{release.artefact!r} is no name of an artefact")
    own = {name for name in release.files if name == Path(name).name and not name.startswith(".")}
    for name in [*(release.files.keys() - own), *(release.master.keys() - {*kept(release.master)})]:
        raise ModelRefused(f"{release.model}@{release.version} has {name!r}, which is not a file of its folder")
    for digest in (*release.files.values(), *release.master.values()):
        if not re.fullmatch("[0-9a-f]{64}", digest.sha256) or digest.size < 0:
            raise ModelRefused(f"{release.model}@{release.version} has a malformed hash")
    if MANIFEST not in release.files or release.files[MANIFEST].sha256 != release.manifest:
        raise ModelRefused(f"{release.model}@{release.version} does not have the manifest that it names")


class _Finder:
    """Finds contents in what is installed here, by their hash."""

    def __init__(self, store: ModelStore) -> None:
        self._known = {
            (digest.sha256, digest.size): artefact.path / name
            for artefact in store.artefacts()
            for name, digest in artefact.manifest.files.items()
        }

    def find(self, digest: FileDigest) -> Path | None:
        """Checked: what was damaged since is not found."""
        path = self._known.get((digest.sha256, digest.size))
        if path is None:
            return None
        try:
            return path if digest_file(path) == digest else None
        except OSError:
            return None


def installed(store: ModelStore, name: str) -> tuple[Artefact, str] | None:
    """An artefact with the hash of its manifest."""
    artefact = store.artefact(name)
    return None if artefact is None else (artefact, digest_file(artefact.path / MANIFEST).sha256)
