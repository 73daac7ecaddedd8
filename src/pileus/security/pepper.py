"""The server's own secret: what makes a stolen database useless for guessing keys.

It keys an HMAC-SHA-256, and keys derived from it salt the prefix cache and sign models and what webhooks are told. It
lives beside the database, in a file that only the owner may read; without it no key of that database can ever be
recognised.
"""

import hmac
import os
import secrets
import stat
from pathlib import Path

from pileus.core.errors import OperatorError
from pileus.security.signing import Signer
from pileus.store.durable import sync_folder

PEPPER_FILE = "pepper"
_SIZE = 32


class Pepper:
    """Keyed digests. The secret stays inside."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod="sha256")  # copying it is twice as fast as keying it each time
        self._salt_key = hmac.digest(secret, b"prefix-cache salt", "sha256")
        self._webhook_key = hmac.digest(secret, b"webhook signature", "sha256")
        self._signing_seed = hmac.digest(secret, b"model signature", "sha256")
        self._verdict_key = hmac.digest(secret, b"gate verdict", "sha256")

    @classmethod
    def load(cls, data_dir: Path, *, may_make: bool = True) -> "Pepper":
        """Read the pepper, or make it on the first start.

        Raises `OperatorError` where it is missing and may not be made (there are keys), damaged, or open to others.
        """
        path = data_dir / PEPPER_FILE
        try:
            if may_make and not path.exists():
                _make(path)
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise OperatorError(f"{path} can be read by others (mode {mode:o}): run `chmod 600 {path}`")
            secret = path.read_bytes()
        except FileNotFoundError:
            raise OperatorError(f"{path} is missing: restore it from a backup; without it no API key works") from None
        except OSError as error:
            raise OperatorError(f"cannot use {path}: {error.strerror}; it must be readable by its owner") from None
        if len(secret) != _SIZE:
            raise OperatorError(f"{path} is damaged: restore it from a backup; without it no API key works")
        return cls(secret)

    def digest(self, secret: bytes) -> bytes:
        """HMAC-SHA-256 of an API key."""
        keyed = self._keyed.copy()
        keyed.update(secret)
        return keyed.digest()

    def salt(self, tenant: str) -> bytes:
        """What separates a tenant in the prefix cache: nobody can compute another tenant's block hashes."""
        return hmac.digest(self._salt_key, tenant.encode(), "sha256")

    def webhook_secret(self, webhook_id: str) -> bytes:
        """What signs the messages to a webhook; its receiver has it too, and can compute no other from it."""
        return hmac.digest(self._webhook_key, webhook_id.encode(), "sha256")

    def signer(self) -> Signer:
        """Who signs in this Pileus' name."""
        return Signer(self._signing_seed)

    def verdict_signature(self, body: bytes) -> bytes:
        """What shows that this Pileus itself came to a verdict: whoever writes into the database cannot make one."""
        return hmac.digest(self._verdict_key, body, "sha256")


def _make(path: Path) -> None:
    """Written whole under another name and durable before it is renamed: a crash leaves no half of a pepper."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_SIZE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.rename(path)
    sync_folder(path.parent)
