"""API keys: made once, shown once, recognised in memory.

Only an HMAC-SHA-256 of a key under the server's pepper is kept. To authenticate is to compute that digest and look it
up: what the look-up's time could tell is a digest that nobody can steer without the pepper, so it tells nothing of any
key; the record found is compared once more in constant time. No database stands on this path.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct, structs
from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, RateLimited, Unauthenticated
from pileus.core.ids import new_id
from pileus.core.records import USUAL_LANES, AuditEvent, Principal
from pileus.scheduling.admission import Share
from pileus.security.audit import SYSTEM
from pileus.security.guesses import Guesses
from pileus.security.ledger import UsageLedger
from pileus.security.pepper import Pepper
from pileus.security.permission import ROLES, Role
from pileus.security.rights import (
    checked_lanes,
    checked_max_priority,
    checked_tokens_per_s,
    checked_weight,
    shares_of,
)
from pileus.security.secret import PREFIX, new_secret, well_formed
from pileus.store.port import Result, Store
from pileus.store.tables import ApiKey, AuditTable, KeyTable, Total, UsageTable

NAME_LIMIT = 128  # characters


class KeyRefused(Unauthenticated):
    """This API key is not valid."""

    def __init__(self, message: str, reason: str, key_id: str = "") -> None:
        super().__init__(message)
        self.reason = reason  # malformed, unknown, expired or revoked; for the audit
        self.key_id = key_id  # where the key is known


class _Entry(Struct):
    digest: bytes
    key: ApiKey
    principal: Principal


class KeyService:
    """Every key of this Pileus. For one event loop."""

    def __init__(self, store: Store, pepper: Pepper, ledger: UsageLedger, clock: Clock) -> None:
        self._store = store
        self._pepper = pepper
        self._ledger = ledger
        self._clock = clock
        self._table = KeyTable()
        self._audit = AuditTable()
        self._guesses = Guesses()
        self._by_digest: dict[bytes, _Entry] = {}
        self._by_id: dict[str, _Entry] = {}
        self._shares: dict[str, Share] = {}
        self._revoking = asyncio.Lock()
        self._acts: set[asyncio.Task[object]] = set()
        self._expired_until = clock.wall()  # keys that expired up to then are known to have
        self.on_closed: list[Callable[[str, KeyRefused], None]] = []  # called with the key's id, on the event loop

    @classmethod
    def open(cls, store: Store, pepper: Pepper, ledger: UsageLedger, clock: Clock) -> "KeyService":
        """Load every key, and give each its account with what it has used so far."""
        service = cls(store, pepper, ledger, clock)
        totals = store.read_blocking(UsageTable().totals)
        for digest, key in store.read_blocking(service._table.all):
            service._admit(digest, key, totals.get(key.id, Total()))
        service._reckon()
        return service

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
        digest = self._pepper.digest(secret.encode())
        entry = self._by_digest.get(digest)
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            raise KeyRefused("This API key is not known here.", "unknown")
        self._check(entry.key)
        return entry.principal

    def check(self, key_id: str) -> None:
        """Raise `KeyRefused` if the key was closed since it was authenticated; for work that begins later."""
        self._check(self._by_id[key_id].key)

    @property
    def shares(self) -> Mapping[str, Share]:
        """What each tenant is entitled to by its open keys. One mapping for good, kept up to date."""
        return self._shares

    def expire(self) -> None:
        """Tell the listeners of the keys that have expired since the last call; call every second.

        Where the clock was set back, keys are open again, and may expire again.
        """
        since, until = self._expired_until, self._clock.wall()
        self._expired_until = until
        earlier, later = min(since, until), max(since, until)
        turned = [
            entry.key
            for entry in self._by_id.values()
            if entry.key.expires_at is not None and earlier < entry.key.expires_at <= later
        ]
        if turned:
            self._reckon()
        for key in turned:
            self._closed(key)

    async def create(
        self,
        name: str,
        role: str,
        tenant: str = "default",
        token_budget: int | None = None,
        budget_micros: int | None = None,
        expires_at: float | None = None,
        lanes: Sequence[str] = USUAL_LANES,
        max_priority: int = 0,
        weight: float = 1.0,
        tokens_per_s: float = 0.0,
        actor: str = SYSTEM,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which exists nowhere else. On record before it works."""
        now = self._clock.wall()
        known_lanes = checked_lanes(lanes)
        key = ApiKey(
            id=new_id("key"),
            name=_checked_label("name", name),
            role=_checked_role(role),
            tenant=_checked_label("tenant", tenant),
            created_at=now,
            created_by=actor,
            expires_at=_checked_expiry(expires_at, now),
            token_budget=_checked_budget("token_budget", token_budget),
            budget_micros=_checked_budget("budget_micros", budget_micros),
            lanes=known_lanes,
            max_priority=checked_max_priority(max_priority),
            weight=checked_weight(weight),
            tokens_per_s=checked_tokens_per_s(tokens_per_s, known_lanes),
        )
        secret = new_secret()
        await self._finish(self._create(key, self._pepper.digest(secret.encode())))
        return key, secret

    async def list(self) -> list[ApiKey]:
        """Every key with what it has used, oldest first."""
        return [self._shown(entry.key) for entry in self._by_id.values()]

    async def revoke(self, key_id: str, actor: str = SYSTEM) -> ApiKey:
        """Close a key for good, at once. Raises `NotFound`. Revoking twice changes nothing."""
        entry = self._by_id.get(key_id)
        if entry is None:
            raise NotFound(f"There is no API key {key_id!r}.")
        await self._finish(self._revoke(entry, actor))
        return self._shown(entry.key)

    async def _create(self, key: ApiKey, digest: bytes) -> None:
        event = self._event(key.created_by, "key.create", key)

        def write(tx: Connection) -> None:
            self._table.insert(tx, key, digest)
            self._audit.insert(tx, [event])

        await self._store.write(write)
        self._admit(digest, key, Total())
        self._reckon()

    async def _revoke(self, entry: _Entry, actor: str) -> None:
        event = self._event(actor, "key.revoke", entry.key)

        def write(tx: Connection) -> None:
            self._table.set_revoked(tx, entry.key.id, event.at)
            self._audit.insert(tx, [event])

        async with self._revoking:
            if entry.key.revoked_at is not None:
                return
            await self._store.write(write)
            entry.key = structs.replace(entry.key, revoked_at=event.at)
        self._reckon()
        self._closed(entry.key)

    def _check(self, key: ApiKey) -> None:
        if refusal := _refusal(key, self._clock.wall()):
            raise refusal

    def _reckon(self) -> None:
        """Bring the shares up to date, after a key opened or closed."""
        now = self._clock.wall()
        found = shares_of(entry.key for entry in self._by_id.values() if _refusal(entry.key, now) is None)
        self._shares.clear()
        self._shares.update(found)

    def _closed(self, key: ApiKey) -> None:
        """What was begun with this key has lost its right."""
        if refusal := _refusal(key, self._clock.wall()):
            for listener in self.on_closed:
                listener(key.id, refusal)

    async def _finish(self, act: Awaitable[Result]) -> Result:
        """See an act through to its effect in memory, even when the caller leaves in between."""
        task = asyncio.ensure_future(act)
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)
        return await asyncio.shield(task)

    def _admit(self, digest: bytes, key: ApiKey, so_far: Total) -> None:
        # A role that a later Pileus knew, and this one does not, holds no permission.
        permissions = frozenset(map(str, ROLES[Role(key.role)])) if key.role in ROLES else frozenset[str]()
        principal = Principal(key.id, key.tenant, key.role, permissions, key.name, key.lanes, key.max_priority)
        entry = _Entry(digest, key, principal)
        self._by_digest[digest] = self._by_id[key.id] = entry
        self._ledger.open_account(key, so_far)

    def _shown(self, key: ApiKey) -> ApiKey:
        account = self._ledger.accounts[key.id]
        return structs.replace(key, used_tokens=account.used_tokens, used_micros=account.used_micros)

    def _event(self, actor: str, action: str, key: ApiKey) -> AuditEvent:
        return AuditEvent(at=self._clock.wall(), actor=actor, tenant=key.tenant, action=action, target=key.id)


def _refusal(key: ApiKey, now: float) -> KeyRefused | None:
    """Why a known key opens nothing, if so."""
    if key.revoked_at is not None:
        return KeyRefused("This API key was revoked.", "revoked", key.id)
    if key.expires_at is not None and now >= key.expires_at:
        return KeyRefused("This API key has expired.", "expired", key.id)
    return None


def _checked_label(param: str, text: str) -> str:
    if not text.strip() or len(text) > NAME_LIMIT or not text.isprintable():
        raise InvalidRequest(f"`{param}` must be 1 to {NAME_LIMIT} printable characters.", param=param)
    return text


def _checked_role(role: str) -> str:
    if role not in ROLES:
        raise InvalidRequest(f"There is no role {role!r}; choose one of {', '.join(ROLES)}.", param="role")
    return str(role)


def _checked_expiry(expires_at: float | None, now: float) -> float | None:
    if expires_at is not None and not now < expires_at < float("inf"):
        raise InvalidRequest("`expires_at` must be a time in the future.", param="expires_at")
    return expires_at


def _checked_budget(param: str, budget: int | None) -> int | None:
    if budget is not None and not 0 <= budget < 2**63:
        raise InvalidRequest(f"`{param}` must be a whole number from 0 to 2^63 - 1.", param=param)
    return budget
