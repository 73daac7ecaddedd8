"""Signatures that others can check: Ed25519 (RFC 8032). The key follows from the server's own secret, so a backup has
it, and a restored Pileus goes on signing as the one that it was."""

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer:
    """Signs in this Pileus' name. The secret stays inside."""

    def __init__(self, seed: bytes) -> None:
        """`seed` has 32 bytes."""
        self._seed = seed

    @cached_property
    def public_key(self) -> str:
        """64 hexadecimal digits; whoever has them can check, and cannot sign."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, statement: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(statement)

    @cached_property
    def _key(self) -> "Ed25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._seed)


def is_signed(statement: bytes, signature: bytes, public_key: str) -> bool:
    """Whether the holder of that key signed this very statement. What is no key has signed nothing."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True
