"""The room as one thing: what bootstrap opens after the store, ticks every second, and closes before it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pileus.core.clock import Clock
from pileus.observability.events import get_log
from pileus.security.audit import AuditLog
from pileus.security.keys import KeyService
from pileus.security.ledger import UsageLedger
from pileus.security.pepper import Pepper
from pileus.security.signing import Signer
from pileus.security.usage import UsageJournal
from pileus.store.port import Store
from pileus.store.tables import KeyTable

log = get_log(__name__)

FLUSH_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Security:
    """Keys, ledger and audit over one store."""

    keys: KeyService
    ledger: UsageLedger
    audit: AuditLog
    usage: UsageJournal
    salt: Callable[[str], bytes]  # of a tenant, for the prefix cache
    webhook_secret: Callable[[str], bytes]  # of a webhook's id
    signer: Signer
    verdict_signature: Callable[[bytes], bytes]  # of a verdict's body

    @classmethod
    def open(cls, data_dir: Path, store: Store, clock: Clock) -> "Security":
        """Raises `OperatorError` where the pepper is missing, damaged, or open to others."""
        pepper = Pepper.load(data_dir, may_make=not store.read_blocking(KeyTable().all))
        usage = UsageJournal(store)
        ledger = UsageLedger(usage)
        keys = KeyService.open(store, pepper, ledger, clock)
        audit = AuditLog(store, clock)
        signatures = (pepper.signer(), pepper.verdict_signature)
        return cls(keys, ledger, audit, usage, pepper.salt, pepper.webhook_secret, *signatures)

    async def run(self) -> None:
        """Close keys that expire, and write usage and refusals, every second until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            self.keys.expire()
            self.usage.flush()
            self.audit.flush()

    def close(self) -> int:
        """Write what waits; the number of usage rows that could not be written."""
        self.audit.close()
        lost = self.usage.close()
        if lost:
            log.error("usage.lost", rows=lost)
        return lost
