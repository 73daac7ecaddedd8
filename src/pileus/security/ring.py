"""Recognises API keys, in memory.

Only an HMAC-SHA-256 of a key under the server's pepper is kept. To authenticate is to compute that digest and look it
up: what the look-up's time could tell is a digest that nobody can steer without the pepper, so it tells nothing of any
key; the record found is compared once more in constant time. No database stands on this path.
"""

import hmac
from collections.abc import Callable, Iterator

from msgspec import Struct

from pileus.core.clock import Clock
from pileus.core.errors import RateLimited, Unauthenticated
from pileus.core.records import Principal
from pileus.security.guesses import Guesses
from pileus.security.pepper import Pepper
from pileus.security.permission import ROLES, Role
from pileus.security.secret import PREFIX, well_formed
from pileus.store.tables import ApiKey


class KeyRefused(Unauthenticated):
    """This API key is not valid."""

    def __init__(self, message: str, reason: str, key_id: str = "") -> None:
        super().__init__(message)
        self.reason = reason  # malformed, unknown, expired or revoked; for the audit
        self.key_id = key_id  # where the key is known


class Entry(Struct, frozen=True):
    """A key that is known here."""

    digest: bytes
    key: ApiKey
    principal: Principal


class KeyRing:
    """Who holds which key. For one event loop."""

    def __init__(self, pepper: Pepper, clock: Clock) -> None:
        self._pepper = pepper
        self._clock = clock
        self._guesses = Guesses()
        self._by_digest: dict[bytes, Entry] = {}
        self._by_id: dict[str, Entry] = {}
        self._expired_until = clock.wall()  # keys that expired up to then are known to have
        self.on_put: list[Callable[[Entry], None]] = []  # called with each key that is new or has changed
        self.on_closed: list[Callable[[str, KeyRefused], None]] = []  # called with the key's id, on the event loop

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_id.values())

    def get(self, key_id: str) -> Entry | None:
        return self._by_id.get(key_id)

    def put(self, digest: bytes, key: ApiKey) -> None:
        """Know a key from now on, or know it as it is now. One that was closed by this has lost its right at once."""
        # A role that a later Pileus knew, and this one does not, holds no permission.
        permissions = frozenset(map(str, ROLES[Role(key.role)])) if key.role in ROLES else frozenset[str]()
        principal = Principal(key.id, key.tenant, key.role, permissions, key.name, key.lanes, key.max_priority)
        known = key.id in self._by_id
        entry = self._by_digest[digest] = self._by_id[key.id] = Entry(digest, key, principal)
        for listener in self.on_put:
            listener(entry)
        if known:
            self._closed(key)

    def digest(self, secret: str) -> bytes:
        return self._pepper.digest(secret.encode())

    def authenticate(self, secret: str, address: str = "") -> Principal:
        """Who holds this key, sent from there; callers without an address count as one.

        Raises `KeyRefused`, whose messages tell more than "no" only to a key's holder, or `RateLimited` where the key
        is nobody's and its address has sent too many such.
        """
        try:
            return self._recognise(secret)
        except KeyRefused as refusal:
            if refusal.key_id:
                raise
            wait_s = self._guesses.wrong(address, self._clock.monotonic())
            if wait_s is None:
                raise
        raise RateLimited("Too many wrong API keys came from this address.", retry_after_s=wait_s)

    def _recognise(self, secret: str) -> Principal:
        if not well_formed(secret):
            raise KeyRefused(f"This is not a Pileus API key, or it has a typing mistake: {PREFIX}...", "malformed")
        digest = self.digest(secret)
        entry = self._by_digest.get(digest)
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            raise KeyRefused("This API key is not known here.", "unknown")
        self._check(entry.key)
        return entry.principal

    def check(self, key_id: str) -> None:
        """Raise `KeyRefused` if the key was closed since it was authenticated; for work that begins later."""
        self._check(self._by_id[key_id].key)

    def holder(self, key_id: str) -> Principal:
        """Who holds the key of that id; for work that begins without the key itself. Raises `KeyRefused`."""
        entry = self._by_id.get(key_id)
        if entry is None:
            raise KeyRefused("This API key is not known here.", "unknown", key_id)
        self._check(entry.key)
        return entry.principal

    def is_open(self, key: ApiKey) -> bool:
        return _refusal(key, self._clock.wall()) is None

    def expire(self) -> bool:
        """Tell the listeners of the keys that have expired since the last call, and whether there are any; call every
        second. Where the clock was set back, keys are open again, and may expire again.
        """
        since, until = self._expired_until, self._clock.wall()
        self._expired_until = until
        earlier, later = min(since, until), max(since, until)
        turned = [
            entry.key
            for entry in self._by_id.values()
            if entry.key.expires_at is not None and earlier < entry.key.expires_at <= later
        ]
        for key in turned:
            self._closed(key)
        return bool(turned)

    def _check(self, key: ApiKey) -> None:
        if refusal := _refusal(key, self._clock.wall()):
            raise refusal

    def _closed(self, key: ApiKey) -> None:
        """What was begun with this key has lost its right."""
        if refusal := _refusal(key, self._clock.wall()):
            for listener in self.on_closed:
                listener(key.id, refusal)


def _refusal(key: ApiKey, now: float) -> KeyRefused | None:
    """Why a known key opens nothing, if so."""
    if key.revoked_at is not None:
        return KeyRefused("This API key was revoked.", "revoked", key.id)
    if key.expires_at is not None and now >= key.expires_at:
        return KeyRefused("This API key has expired.", "expired", key.id)
    return None
