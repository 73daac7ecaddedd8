"""Writes into a store what `recovered` finds again, and says after each write whether it was acknowledged.

    python power_writer.py FOLDER PLAN

The plan is the arguments of `live`, as JSON.
"""

import asyncio
import errno
import os
import sys
from collections import Counter
from dataclasses import dataclass
from json import loads
from pathlib import Path

from sqlalchemy import Connection

from faults.power import TOLD, order
from pileus.core.errors import Unavailable
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

    def close_readers(self) -> None:
        self._store._readers.dispose()

    def _key(self, n: int) -> None:
        asyncio.run(self._security.keys.create(str(n), "user"))

    def _event(self, n: int) -> None:
        self._security.audit.record(_numbered(n))

    def _usage(self, n: int) -> None:
        for _ in range(BATCH):
            self._security.usage.append(_record(n))
        while (written := self._security.usage.flush()) is not None:  # a batch that was refused goes first
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


def recovered(folder: Path) -> frozenset[int]:
    """The writes that are there. Fails where one is there in part."""
    store = SqliteStore.open(folder)
    try:
        Security.open(folder, store, ManualClock(1.0))  # the pepper is there if there are keys
        return store.read_blocking(_numbers)
    finally:
        store.close()


def _numbers(tx: Connection) -> frozenset[int]:
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
    return frozenset({*keys.values(), *numbered, *usage})


class Teller:
    """Tells what became of each write, in the order of events."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / TOLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, numbered: Numbered, n: int) -> None:
        try:
            numbered.write(n)
        except Unavailable:
            os.write(self._file, b"refused %d\n" % n)
        else:
            os.write(self._file, b"acknowledged %d\n" % n)


@dataclass(frozen=True)
class Failing:
    """Calls that fail: from the write `after` on, for `during` writes. See `power.order`. With `alone` there is no
    connection then but the writer's."""

    control: str
    op: str
    path: str
    times: int
    after: int = 5  # in the midst of a log, not at its begin
    during: int = 8
    alone: bool = False

    def before(self, n: int, numbered: Numbered) -> None:
        if n == self.after:
            if self.alone:
                numbered.close_readers()
            order(Path(self.control), self.op, times=self.times, error=errno.EIO, path=self.path)
        if n == self.after + self.during:
            order(Path(self.control))


def live(folder: Path, begin: int, lives: list[int], failing: Failing | None) -> None:
    """So many writes in each life, numbered from `begin` on. The last ends as a crash does."""
    teller, n = Teller(folder), begin
    for life, writes in enumerate(lives, 1):
        numbered = Numbered(folder)
        for _ in range(writes):
            if failing is not None:
                failing.before(n, numbered)
            teller.write(numbered, n)
            n += 1
        if life < len(lives):
            numbered.close()
    os._exit(0)


if __name__ == "__main__":
    folder, plan = sys.argv[1:]
    wanted = loads(plan)
    fails = wanted.pop("failing")
    live(Path(folder), **wanted, failing=Failing(**fails) if fails else None)
