"""What a command does without a server: check the settings, look at the models, manage the keys of a data folder."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pileus import __version__
from pileus.bootstrap import load_driver
from pileus.core.clock import SystemClock
from pileus.core.errors import InvalidRequest
from pileus.models.store import MODELS_FOLDER

if TYPE_CHECKING:
    from pileus.bootstrap.registry import LocalRegistry
    from pileus.config.load import Loaded
    from pileus.config.settings import Settings
    from pileus.models.artefact import Artefact
    from pileus.models.catalogue import Catalogue
    from pileus.models.progress import Progress
    from pileus.models.versions import Registry
    from pileus.security.service import Security
    from pileus.store.backup import Backup, Source
    from pileus.store.port import Store
    from pileus.store.restore import Restore
    from pileus.training.finetune.check import Measure


def check(loaded: "Loaded") -> None:
    """Validate what only the drivers know. Raises `ConfigError` with the line and the fix."""
    from pileus.bootstrap.engines import CHOICE
    from pileus.config.load import mistaken, validate_options
    from pileus.config.settings import ANY_ENGINE

    catalogue = open_catalogue(loaded.settings)
    for deployment in loaded.settings.deployment:
        try:
            wanted = CHOICE.foreseen(deployment, catalogue)
        except InvalidRequest as error:
            raise mistaken(deployment, error.param or "", error.message, loaded.origin) from None
        if wanted.engine != ANY_ENGINE:
            validate_options(load_driver(wanted.engine).options, wanted, loaded.origin)


def open_catalogue(settings: "Settings") -> "Catalogue":
    """The models of this data folder."""
    from pileus.models.catalogue import Catalogue

    return Catalogue(settings.data_dir / MODELS_FOLDER, settings.models)


def open_registry(settings: "Settings", store: "Store", security: "Security") -> "Registry":
    """What is on record of the models of this data folder."""
    from pileus.models.versions import Registry

    artefacts = settings.data_dir / MODELS_FOLDER / "artefacts"
    return Registry(store, artefacts, security.signer, SystemClock(), settings.models.trusted_keys)


def import_adapter(settings: "Settings", folder: Path, name: str, base: str, progress: "Progress") -> "Artefact":
    """Install a folder that PEFT wrote. Raises `OperatorError`."""
    from pileus.bootstrap.workshop import base_of

    catalogue = open_catalogue(settings)
    return catalogue.import_adapter(folder, name, base_of(catalogue, base), progress)


def example_measure(settings: "Settings", model: str, max_length: int | None, progress: "Progress") -> "Measure":
    """How long examples are for a model of the catalogue, which is pulled where it is not here yet."""
    from pileus.models.tokenizer import load_tokenizer
    from pileus.training.finetune.measuring import measure_with
    from pileus.training.finetune.plan import max_length_of
    from pileus.training.finetune.records import Wishes

    tokenizer = load_tokenizer(open_catalogue(settings).ensure(model, progress).path)
    return measure_with(tokenizer, max_length_of(Wishes(max_length=max_length), tokenizer.context_length))


def backup_source(settings: "Settings") -> "Source":
    """What a backup of this data folder is made of."""
    from pileus.security.pepper import PEPPER_FILE
    from pileus.store.backup import Source

    return Source(
        data_dir=settings.data_dir,
        version=__version__,
        files=(PEPPER_FILE,),
        blobs=settings.files.blobs,
        models=f"{MODELS_FOLDER}/artefacts",
    )


def backup_of_stopped(settings: "Settings", *, models: bool) -> "AbstractContextManager[Backup]":
    """A backup of a data folder that no server owns at present."""
    from pileus.store.backup import backup_of_stopped

    return backup_of_stopped(backup_source(settings), SystemClock(), models=models)


def open_archive(path: Path) -> "Restore":
    """A backup, to be checked or restored."""
    from pileus.security.pepper import PEPPER_FILE
    from pileus.store.restore import Restore

    return Restore(path, files=frozenset({PEPPER_FILE}), folders=frozenset({MODELS_FOLDER}))


@contextmanager
def own(settings: "Settings") -> Iterator[tuple["Store", "Security"]]:
    """Store and security, while this process owns the data folder."""
    from pileus.security.service import Security
    from pileus.store.sqlite import SqliteStore

    store = SqliteStore.open(settings.data_dir)
    try:
        security = Security.open(settings.data_dir, store, SystemClock())
        try:
            if store.dropped_bytes:
                security.audit.found("store.recover", f"{store.dropped_bytes} bytes of an unfinished write dropped")
            yield store, security
        finally:
            security.close()
    finally:
        store.close()


@contextmanager
def open_keyring(settings: "Settings") -> Iterator["LocalKeyring"]:
    """The keys of a data folder that no server owns at present."""
    with own(settings) as (_, security):
        yield LocalKeyring(security)


@contextmanager
def open_local_registry(settings: "Settings") -> Iterator["LocalRegistry"]:
    """The registry of a data folder that no server owns at present."""
    from pileus.bootstrap.registry import LocalRegistry

    with own(settings) as (store, security):
        yield LocalRegistry(open_registry(settings, store, security), store, settings)


class LocalKeyring:
    """Keys as plain records, straight from the store."""

    def __init__(self, security: "Security") -> None:
        self._keys = security.keys

    def create(self, wishes: dict[str, Any]) -> dict[str, Any]:
        key, secret = asyncio.run(self._keys.create(**wishes))
        return msgspec.structs.asdict(key) | {"secret": secret}

    def list(self) -> list[dict[str, Any]]:
        return [msgspec.structs.asdict(key) for key in asyncio.run(self._keys.list())]

    def revoke(self, key_id: str) -> dict[str, Any]:
        return msgspec.structs.asdict(asyncio.run(self._keys.revoke(key_id)))
