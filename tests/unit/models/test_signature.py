"""A replica that demands signatures: what it takes, and what it refuses and why."""

import json
from pathlib import Path

import pytest

from made_versions import shelve
from pileus.core.errors import ModelRefused
from pileus.models.artefact import MANIFEST
from pileus.models.signature import CARD, SIGNATURE, SignedReader, attach, demand_signature, sign
from pileus.security.pepper import Pepper
from pileus.security.signing import Signer, is_signed

pytest.importorskip("cryptography", reason="`make` installs it")

OWN, OTHER = Signer(b"a" * 32), Signer(b"b" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Signed by the own key."""
    sha256 = shelve(tmp_path, "mine", {"adapter.json": b"x"})
    folder = tmp_path / "artefacts" / "mine"
    attach(folder, b'{"notes":"n"}', sign(sha256, b'{"notes":"n"}', OWN))
    return folder


def test_what_a_trusted_key_signed_is_taken(folder: Path) -> None:
    demand_signature(folder, [OTHER.public_key, OWN.public_key])


def test_a_key_that_nobody_trusts_is_named(folder: Path) -> None:
    with pytest.raises(ModelRefused, match=f"signed by {OWN.public_key}, which models.trusted_keys does not name"):
        demand_signature(folder, [OTHER.public_key])


@pytest.mark.parametrize("name", [MANIFEST, CARD])
def test_a_changed_manifest_or_card_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelRefused, match="is not of this artefact and card"):
        demand_signature(folder, [OWN.public_key])


@pytest.mark.parametrize("name", [SIGNATURE, CARD])
def test_what_is_not_signed_is_refused_with_what_to_do(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelRefused, match=r"is not signed.*`pileus models sign`"):
        demand_signature(folder, [OWN.public_key])


@pytest.mark.parametrize("signature", ["", "00", "zz", "0" * 128])
def test_a_forged_signature_is_refused(folder: Path, signature: str) -> None:
    (folder / SIGNATURE).write_text(json.dumps({"key": OWN.public_key, "signature": signature}))
    with pytest.raises(ModelRefused):
        demand_signature(folder, [OWN.public_key])


class Reading:
    """An `AdapterReader` that counts."""

    def __init__(self) -> None:
        self.read = 0

    def shapes(self, path: Path) -> dict[tuple[int, str], tuple[int, int, int]]:
        self.read += 1
        return {(0, "q_proj"): (4, 1, 4)}

    def weights(self, path: Path) -> str:
        self.read += 1
        return path.name


def test_an_adapter_is_read_only_as_it_was_signed_also_when_it_is_loaded_later(folder: Path) -> None:
    inner = Reading()
    reader = SignedReader(inner, [OWN.public_key])
    assert reader.shapes(folder) == {(0, "q_proj"): (4, 1, 4)}
    assert reader.weights(folder) == "mine"
    (folder / CARD).write_bytes(b"{}")  # after it was first looked at
    for read in (reader.weights, reader.shapes):
        with pytest.raises(ModelRefused, match="one of them was changed"):
            read(folder)
    (folder / SIGNATURE).unlink()
    with pytest.raises(ModelRefused, match="not signed"):
        reader.weights(folder)
    assert inner.read == 2


def test_signatures_are_those_of_rfc_8032() -> None:
    """Section 7.1, test 2."""
    signer = Signer(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert signer.public_key == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = signer.sign(b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert is_signed(b"\x72", signature, signer.public_key)
    assert not is_signed(b"\x73", signature, signer.public_key)
    assert not is_signed(b"\x72", signature, "no key")


def test_the_key_follows_from_the_servers_secret_and_is_no_other_of_its_keys() -> None:
    pepper = Pepper(b"p" * 32)
    assert pepper.signer().public_key == Pepper(b"p" * 32).signer().public_key
    assert pepper.signer().public_key != Pepper(b"q" * 32).signer().public_key
    assert pepper.signer().public_key not in (Signer(pepper.salt("x")).public_key, Signer(b"p" * 32).public_key)
