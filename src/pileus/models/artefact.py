"""One model, ready to be served: a folder of files, each with its hash in the manifest."""

import hashlib
import os
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from pileus.core.errors import ModelRefused
from pileus.core.records import Encoding

MANIFEST = "manifest.json"
GENERATION = "generation.json"
MODEL_XML = "openvino_model.xml"
MODEL_BIN = "openvino_model.bin"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"  # a base model has none
ENCODING = "encoding.json"  # of an encoder: what `generation.json` is of a generator
ADAPTER = "adapter.json"  # what an adapter belongs to
ADAPTER_CONFIG = "adapter_config.json"  # as PEFT writes it
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # as PEFT writes it


class Kind(StrEnum):
    """What an artefact is, and so which files it must have."""

    GENERATOR = "generator"  # text to text, token by token
    ENCODER = "encoder"  # text to vectors, labels or scores
    ADAPTER = "adapter"  # low-rank changes to a generator


REQUIRED = {
    Kind.GENERATOR: (MODEL_XML, MODEL_BIN, TOKENIZER, GENERATION),
    Kind.ENCODER: (MODEL_XML, MODEL_BIN, TOKENIZER, ENCODING),
    Kind.ADAPTER: (ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS),
}
FORMAT = 2  # of what the converter writes: an artefact of an older one is made anew


class FileDigest(Struct, frozen=True):
    sha256: str
    size: int


class Manifest(Struct, frozen=True, kw_only=True):
    """What the folder must contain, byte for byte, and where it came from."""

    format: int = FORMAT
    kind: Kind = Kind.GENERATOR
    name: str
    model: str = ""  # which it is a version of; empty: it is called as the artefact is
    licence: str
    source: str  # e.g. "sha256:b179..." of the file or the folder that it was made from
    origin: str = ""  # where that came from, e.g. "hub:org/name@commit"; empty where nobody knows
    converter: str  # the tool and its version
    files: dict[str, FileDigest]


class Generation(Struct, frozen=True, kw_only=True):
    """What text generation must know beside the weights."""

    architecture: str
    context_length: int
    vocab_size: int
    stop_ids: tuple[int, ...]  # end of turn first, then end of text
    bos_id: int | None = None
    bos_token: str = ""
    eos_token: str = ""


class _Unknown(Struct, frozen=True):
    architecture: str = "?"


_UNKNOWN = _Unknown()


class Artefact(Struct, frozen=True, kw_only=True):
    """A verified-on-demand model folder."""

    name: str
    path: Path
    manifest: Manifest
    generation: Generation | None  # of a generator
    encoding: Encoding | None = None  # of an encoder

    @property
    def context_length(self) -> int:
        """Tokens that fit: of prompt and answer together, or of one text; 0 is unknown."""
        if self.encoding:
            return self.encoding.max_length
        return self.generation.context_length if self.generation else 0

    @property
    def architecture(self) -> str:
        return (self.generation or self.encoding or _UNKNOWN).architecture

    @property
    def licence(self) -> str:
        return self.manifest.licence

    @property
    def is_current(self) -> bool:
        return self.manifest.format == FORMAT

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.manifest.files.values())


_Record = TypeVar("_Record", Manifest, Generation, Encoding)


def load_artefact(path: Path) -> Artefact:
    """Read the folder's records. Raises `ModelRefused` where they are missing or malformed; hashes no file."""
    manifest = _read(path / MANIFEST, Manifest)
    generation = read_generation(path) if manifest.kind == Kind.GENERATOR else None
    encoding = read_encoding(path) if manifest.kind == Kind.ENCODER else None
    return Artefact(name=manifest.name, path=path, manifest=manifest, generation=generation, encoding=encoding)


def read_generation(path: Path) -> Generation:
    return _read(path / GENERATION, Generation)


def read_encoding(path: Path) -> Encoding:
    return _read(path / ENCODING, Encoding)


def verify(path: Path) -> Artefact:
    """Check every file of the artefact against its manifest. Raises `ModelRefused`, naming the file."""
    artefact = load_artefact(path)
    if not artefact.is_current:
        raise ModelRefused(f"{path} was made by another version of Pileus: pull or import the model again")
    files = artefact.manifest.files
    for name in REQUIRED[artefact.manifest.kind]:
        if name not in files:
            raise ModelRefused(f"{path / MANIFEST} does not list {name}: remove the model and pull it again")
    for name, expected in files.items():
        if name != Path(name).name:
            raise ModelRefused(f"{path / MANIFEST} lists {name!r}, which is not a file of its folder")
        _check(path / name, expected)
    unlisted = next((name for name in (CHAT_TEMPLATE,) if name not in files and (path / name).exists()), None)
    if unlisted:
        raise ModelRefused(f"{path / unlisted} is not listed in the manifest: remove the model and pull it again")
    return artefact


def _check(file: Path, expected: FileDigest) -> None:
    try:
        actual = digest_file(file)
    except OSError as error:
        raise ModelRefused(f"{file} cannot be read ({error.strerror}): remove the model and pull it again") from error
    if actual != expected:
        raise ModelRefused(f"{file} has changed since it was installed: remove the model and pull it again")


def digest_file(file: Path) -> FileDigest:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return FileDigest(digest, os.fstat(opened.fileno()).st_size)


def write_record(path: Path, record: Struct) -> None:
    """Readable JSON, since operators look at it."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _read(path: Path, kind: type[_Record]) -> _Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error.strerror}): remove the model and pull it again") from error
    except msgspec.MsgspecError as error:
        raise ModelRefused(f"{path} is malformed ({error}): remove the model and pull it again") from error
