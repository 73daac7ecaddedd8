"""A signed artefact: its card and a signature lie beside its manifest, and go with it wherever it is copied.

What is signed is the hash of the manifest, which names every file by its hash, and the hash of the card: so neither a
byte of the weights nor a word of the card can change without the signature failing.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pileus.core.errors import ModelRefused
from pileus.core.ports import AdapterReader
from pileus.models.artefact import MANIFEST
from pileus.security.signing import Signer, is_signed
from pileus.store.durable import sync_folder

CARD = "card.json"
SIGNATURE = "signature.json"


class Signature(Struct, frozen=True):
    """Who signed, and the signature; both in hexadecimal digits."""

    key: str
    signature: str


def sign(manifest_sha256: str, card: bytes, signer: Signer) -> Signature:
    return Signature(signer.public_key, signer.sign(_statement(manifest_sha256, card)).hex())


def is_valid(signature: Signature, manifest_sha256: str, card: bytes) -> bool:
    """Whether it is of this manifest and this card; says nothing of whether its key is trusted."""
    try:
        raw = bytes.fromhex(signature.signature)
    except ValueError:
        return False
    return is_signed(_statement(manifest_sha256, card), raw, signature.key)


def read_signature(raw: bytes) -> Signature | None:
    """None for none, and for what is malformed."""
    try:
        return msgspec.json.decode(raw, type=Signature) if raw else None
    except msgspec.MsgspecError:
        return None


def demand_signature(folder: Path, trusted: Collection[str]) -> None:
    """Raises `ModelRefused` unless one of the trusted keys signed this artefact and its card as they are."""
    try:
        manifest, card = ((folder / name).read_bytes() for name in (MANIFEST, CARD))
        signature = read_signature((folder / SIGNATURE).read_bytes())
    except FileNotFoundError:
        signature = None
    if signature is None:
        raise ModelRefused(
            f"{folder.name} is not signed, and models.require_signature asks for it: `pileus models sign` it"
        )
    if signature.key not in trusted:
        raise ModelRefused(f"{folder.name} is signed by {signature.key}, which models.trusted_keys does not name")
    if not is_valid(signature, hashlib.sha256(manifest).hexdigest(), card):
        raise ModelRefused(f"the signature of {folder.name} is not of this artefact and card: one of them was changed")


class SignedReader:
    """Meets `core.ports.AdapterReader`: another reader, of what trusted keys have signed only."""

    def __init__(self, reader: AdapterReader, trusted: Collection[str]) -> None:
        self._reader = reader
        self._trusted = trusted

    def shapes(self, path: Path) -> Mapping[tuple[int, str], tuple[int, int, int]]:
        demand_signature(path, self._trusted)
        return self._reader.shapes(path)

    def weights(self, path: Path) -> Any:
        """Asked again: what lies there may have changed since it was first looked at."""
        demand_signature(path, self._trusted)
        return self._reader.weights(path)


def attach(folder: Path, card: bytes, signature: Signature) -> None:
    """Lay both beside the manifest; durable when this returns."""
    _replace(folder / CARD, card)
    _replace(folder / SIGNATURE, msgspec.json.encode(signature))
    sync_folder(folder)


def detach(folder: Path) -> None:
    """No-op where there is none."""
    for name in (SIGNATURE, CARD):
        (folder / name).unlink(missing_ok=True)


def _statement(manifest_sha256: str, card: bytes) -> bytes:
    return f"pileus model 1\n{manifest_sha256}\n{hashlib.sha256(card).hexdigest()}\n".encode()


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
