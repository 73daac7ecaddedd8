"""Writes into a store what `recovered` finds again, and says after each write that it was acknowledged.

    python power_writer.py FOLDER WRITES WRITES...

Each number is a life of the process's store: all but the last are closed properly.
"""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

from sqlalchemy import Connection

from pileus.core.records import AuditEvent, Lane, UsageRecord
from pileus.security.service import Security
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import (
    AuditTable,
    DeploymentTable,
    KeyTable,
    StoredDeployment,
    UsageTable,
)
from pileus.testing.clock import ManualClock

BATCH = 5  # usage rows
CHECKPOINT_PAGES = 20  # so that a short history has several
_ACTION = "numbered"


class Numbered:
    """Writes that can be told apart, each of several rows."""

    def __init__(self, folder: Path) -> None:
        self._store = SqliteStore.open(folder)
        self._security = Security.open(folder, self._store, ManualClock(1.0))
        self._store.write_blocking(
            lambda tx: tx.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
        )

    def write(self, n: int) -> None:
        """Durable when this returns."""
        (self._key, self._event, self._usage, self._deployment)[n % 4](n)

    def close(self) -> None:
        self._security.close()
        self._store.close()

    def _key(self, n: int) -> None:
        asyncio.run(self._security.keys.create(str(n), "user"))

    def _event(self, n: int) -> None:
        self._security.audit.record(_numbered(n))

    def _usage(self, n: int) -> None:
        for _ in range(BATCH):
            self._security.usage.append(_record(n))
        written = self._security.usage.flush()
        assert written is not None
        written.result()

    def _deployment(self, n: int) -> None:
        def put(tx: Connection) -> None:
            DeploymentTable().put(tx, StoredDeployment(str(n), "x" * 9000, 1.0, "k"))  # over several pages
            AuditTable().insert(tx, [_numbered(n)])

        self._store.write_blocking(put)


def _numbered(n: int) -> AuditEvent:
    return AuditEvent(at=1.0, actor="a", tenant="t", action=_ACTION, target=str(n))


def _record(n: int) -> UsageRecord:
    return UsageRecord(
        request_id=str(n),
        key_id="k",
        tenant="t",
        deployment="d",
        lane=Lane.BATCH,
        outcome="stop",
        at=1.0,
        prompt_tokens=3,
        completion_tokens=4,
    )


def recovered(folder: Path) -> int:
    """How many writes are there. Fails where one is there in part, or one is missing before another."""
    store = SqliteStore.open(folder)
    try:
        Security.open(folder, store, ManualClock(1.0))  # the pepper is there if there are keys
        return store.read_blocking(_count)
    finally:
        store.close()


def _count(tx: Connection) -> int:
    assert tx.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    keys = {key.id: int(key.name) for _, key in KeyTable().all(tx)}
    events = [event for _, event in AuditTable().latest(tx, 10**6)]
    numbered = {int(event.target) for event in events if event.action == _ACTION}
    assert {event.target for event in events if event.action == "key.create"} == set(keys)
    usage = Counter(int(record.request_id) for _, record in UsageTable().after(tx, 0, 10**6))
    assert set(usage.values()) <= {BATCH}
    totals = UsageTable().totals(tx)
    assert (totals["k"].requests if totals else 0) == usage.total()
    deployments = {int(each.name) for each in DeploymentTable().all(tx)}
    assert deployments == {n for n in numbered if n % 4 == 3}
    found = sorted({*keys.values(), *numbered, *usage})
    assert found == list(range(len(found)))
    return len(found)


def main(folder: Path, lives: list[int]) -> None:
    said = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    n = 0
    for life, writes in enumerate(lives):
        numbered = Numbered(folder)
        for _ in range(writes):
            numbered.write(n)
            n += 1
            os.write(said, b"%d\n" % n)
        if life < len(lives) - 1:
            numbered.close()
    os._exit(0)  # as a crash does


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(each) for each in sys.argv[2:]])
