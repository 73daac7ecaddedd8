"""Bring a model in: remember what it was made of, and convert it, unless the same content was converted before."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pileus.core.errors import ModelRefused
from pileus.models.artefact import MANIFEST, Artefact, Manifest, digest_file, verify, write_record
from pileus.models.conversion import convert
from pileus.models.progress import Progress
from pileus.models.store import ModelStore, require_space

# What of a Hugging Face folder is kept: weights, configuration, tokenizer, words. Never pickles, never code.
_KEPT_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md")
_KEPT_NAMES = ("LICENSE", "LICENCE", "NOTICE")
# Of a part behind an encoder, as Sentence Transformers saves it: without it, nobody knows how vectors are made.
_MODULE_CONFIG = re.compile(r"[0-9]+_\w+/config\.json")
_HEAD_BYTES = 4096


def bring_in(
    path: Path,
    name: str,
    store: ModelStore,
    progress: Progress,
    *,
    licence: str = "",
    model: str = "",
    origin: str = "",
) -> Artefact:
    """Install a Hugging Face or an OpenVINO folder, or a GGUF file. A folder with safetensors is kept as the model's
    master, so that it can be trained further. Call while holding the name's lock.

    Raises `ModelRefused` for what cannot be served, and leaves nothing of it.
    """
    licence = licence or (_licence(path) if path.is_dir() else "")
    if not _has_weights(path):
        source_id = f"sha256:{_digest(path, progress)}"
        return make(path, name, store, progress, licence=licence, source_id=source_id, model=model, origin=origin)
    with store.scratch(name) as scratch:
        draft = scratch / "master"
        source_id = f"sha256:{_copy_master(path, draft, progress)}"
        master = store.keep_master(draft, name)
    try:
        return make(master, name, store, progress, licence=licence, source_id=source_id, model=model, origin=origin)
    except BaseException:
        store.drop_master(name)
        raise


def make(
    path: Path,
    name: str,
    store: ModelStore,
    progress: Progress,
    *,
    licence: str,
    source_id: str,
    model: str = "",
    origin: str = "",
) -> Artefact:
    """The artefact of this content: of the files of one that was converted from the same, or converted now."""
    if artefact := reuse(name, store, progress, licence=licence, source_id=source_id, model=model, origin=origin):
        return artefact
    return convert(path, name, store, progress, licence=licence, source_id=source_id, model=model, origin=origin)


def reuse(
    name: str, store: ModelStore, progress: Progress, *, licence: str, source_id: str, model: str = "", origin: str = ""
) -> Artefact | None:
    """An artefact with the very files of an installed one that was converted from the same content; they take no space
    a second time. None where there is none."""
    for twin in store.artefacts():
        if twin.manifest.source != source_id or not twin.is_current:
            continue
        with store.scratch(name) as scratch:
            folder = scratch / "artefact"
            folder.mkdir()
            try:
                verify(twin.path)
                for file in twin.manifest.files:
                    link(twin.path / file, folder / file)
            except (ModelRefused, FileNotFoundError):  # damaged, or removed meanwhile
                continue
            progress("installing", 0, 0)
            manifest = Manifest(
                kind=twin.manifest.kind,
                name=name,
                model=model,
                licence=licence,
                source=source_id,
                origin=origin,
                converter=twin.manifest.converter,
                files=twin.manifest.files,
            )
            write_record(folder / MANIFEST, manifest)
            return store.install(folder, name)
    return None


def link(source: Path, target: Path) -> None:
    """The same bytes under another name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def kept(names: Iterable[str]) -> list[str]:
    """Those files of a Hugging Face repository that a master has."""
    return sorted(filter(is_kept, names))


def is_kept(name: str) -> bool:
    """Whether a master has a file of this name, in it or in a folder of its parts."""
    if "/" in name:
        return bool(_MODULE_CONFIG.fullmatch(name))
    return not name.startswith(".") and (name.endswith(_KEPT_SUFFIXES) or name in _KEPT_NAMES)


def files_of(master: Path) -> list[str]:
    """By their paths in it."""
    return sorted(file.relative_to(master).as_posix() for file in master.rglob("*") if file.is_file())


def _has_weights(path: Path) -> bool:
    return path.is_dir() and (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def _copy_master(folder: Path, target: Path, progress: Progress) -> str:
    """Returns the hash of all that was copied."""
    there = (file.relative_to(folder).as_posix() for file in (*folder.iterdir(), *folder.glob("*_*/config.json")))
    files = [folder / name for name in kept(there) if (folder / name).is_file()]
    total = sum(file.stat().st_size for file in files)
    require_space(target.parent, total)
    target.mkdir()
    done = 0
    for file in files:
        progress("copying", done, total)
        copy = target / file.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
        done += file.stat().st_size
    return _digest(target, progress)


def _digest(path: Path, progress: Progress) -> str:
    """Of a file its hash; of a folder that of its files' names and hashes."""
    progress("verifying", 0, 0)
    if not path.is_dir():
        return digest_file(path).sha256
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file).sha256}\n".encode())
    return whole.hexdigest()


def _licence(folder: Path) -> str:
    """As the model card of the folder states it, in the head of its README."""
    try:
        with (folder / "README.md").open(errors="replace") as readme:
            head = readme.read(_HEAD_BYTES)
    except OSError:
        return ""
    front = re.match(r"---\n(.*?)\n---", head, re.DOTALL)
    stated = re.search(r"^license:\s*[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return stated[1] if stated else ""
