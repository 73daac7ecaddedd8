"""API keys: made once, shown once, kept in the store, and recognised by a `KeyRing`."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from msgspec import structs
from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound
from pileus.core.ids import new_id
from pileus.core.records import USUAL_LANES, AuditEvent, Principal
from pileus.scheduling.fairness import Share
from pileus.security.audit import SYSTEM
from pileus.security.ledger import UsageLedger
from pileus.security.pepper import Pepper
from pileus.security.permission import ROLES
from pileus.security.rights import (
    checked_lanes,
    checked_max_priority,
    checked_tokens_per_s,
    checked_weight,
    shares_of,
)
from pileus.security.ring import Entry, KeyRing
from pileus.security.secret import new_secret
from pileus.store.port import Result, Store
from pileus.store.tables import ApiKey, AuditTable, KeyTable, Total, UsageTable

NAME_LIMIT = 128  # characters


class KeyService:
    """Every key of this Pileus. For one event loop."""

    def __init__(self, store: Store, pepper: Pepper, ledger: UsageLedger, clock: Clock) -> None:
        self.ring = KeyRing(pepper, clock)
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._table = KeyTable()
        self._audit = AuditTable()
        self._shares: dict[str, Share] = {}
        self._revoking = asyncio.Lock()
        self._acts: set[asyncio.Task[object]] = set()

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
        """See `KeyRing`."""
        return self.ring.authenticate(secret, address)

    def check(self, key_id: str) -> None:
        """See `KeyRing`."""
        self.ring.check(key_id)

    @property
    def shares(self) -> Mapping[str, Share]:
        """What each tenant is entitled to by its open keys. One mapping for good, kept up to date."""
        return self._shares

    def expire(self) -> None:
        """Let keys lose their right when their time is over; call every second."""
        if self.ring.expire():
            self._reckon()

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
        await self._finish(self._create(key, self.ring.digest(secret)))
        return key, secret

    async def list(self) -> list[ApiKey]:
        """Every key with what it has used, oldest first."""
        return [self._shown(entry.key) for entry in self.ring]

    async def revoke(self, key_id: str, actor: str = SYSTEM) -> ApiKey:
        """Close a key for good, at once. Raises `NotFound`. Revoking twice changes nothing."""
        entry = self.ring.get(key_id)
        if entry is None:
            raise NotFound(f"There is no API key {key_id!r}.")
        return self._shown(await self._finish(self._revoke(entry, actor)))

    async def _create(self, key: ApiKey, digest: bytes) -> None:
        event = self._event(key.created_by, "key.create", key)

        def write(tx: Connection) -> None:
            self._table.insert(tx, key, digest)
            self._audit.insert(tx, [event])

        await self._store.write(write)
        self._admit(digest, key, Total())
        self._reckon()

    async def _revoke(self, entry: Entry, actor: str) -> ApiKey:
        event = self._event(actor, "key.revoke", entry.key)

        def write(tx: Connection) -> None:
            self._table.set_revoked(tx, entry.key.id, event.at)
            self._audit.insert(tx, [event])

        async with self._revoking:
            present = self.ring.get(entry.key.id) or entry
            if present.key.revoked_at is not None:
                return present.key
            await self._store.write(write)
            revoked = structs.replace(entry.key, revoked_at=event.at)
            self.ring.put(entry.digest, revoked)
        self._reckon()
        return revoked

    def _reckon(self) -> None:
        """Bring the shares up to date, after a key opened or closed."""
        found = shares_of(entry.key for entry in self.ring if self.ring.is_open(entry.key))
        self._shares.clear()
        self._shares.update(found)

    async def _finish(self, act: Awaitable[Result]) -> Result:
        """See an act through to its effect in memory, even when the caller leaves in between."""
        task = asyncio.ensure_future(act)
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)
        return await asyncio.shield(task)

    def _admit(self, digest: bytes, key: ApiKey, so_far: Total) -> None:
        self._ledger.open_account(key, so_far)
        self.ring.put(digest, key)

    def _shown(self, key: ApiKey) -> ApiKey:
        account = self._ledger.accounts[key.id]
        return structs.replace(key, used_tokens=account.used_tokens, used_micros=account.used_micros)

    def _event(self, actor: str, action: str, key: ApiKey) -> AuditEvent:
        return AuditEvent(at=self._clock.wall(), actor=actor, tenant=key.tenant, action=action, target=key.id)


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
