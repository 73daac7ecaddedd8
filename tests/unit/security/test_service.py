"""The room as a whole: it writes every second, and everything at its end."""

import asyncio
from functools import partial

import pytest

from pileus.core.records import AuditEvent, Lane, UsageRecord
from pileus.security.service import Security
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import AuditTable
from pileus.testing.clock import ManualClock
from stored import usage_rows

USAGE = UsageRecord(request_id="r", key_id="k", tenant="t", deployment="d", lane=Lane.ON_DEMAND, outcome="stop", at=0.0)
REFUSAL = AuditEvent(at=0.0, actor="k", tenant="t", action="request.refused", outcome="permission_denied")


async def test_usage_and_refusals_are_written_while_it_runs(
    security: Security, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.security.service.FLUSH_INTERVAL_S", 0)
    security.usage.append(USAGE)
    security.audit.refused(REFUSAL)
    running = asyncio.create_task(security.run())
    for _ in range(3):  # turns of the loop: the task begins, wakes, and hands over
        await asyncio.sleep(0)
    await store.write(lambda tx: None)
    running.cancel()
    assert usage_rows(store) == [USAGE]
    assert await security.audit.latest(9) == [(1, REFUSAL)]


async def test_keys_expire_while_it_runs(
    security: Security, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.security.service.FLUSH_INTERVAL_S", 0)
    key, _ = await security.keys.create("a", "user", expires_at=clock.wall() + 1)
    told: list[str] = []
    security.keys.ring.on_closed.append(lambda key_id, _: told.append(key_id))
    clock.advance(1)
    running = asyncio.create_task(security.run())
    for _ in range(3):
        await asyncio.sleep(0)
    running.cancel()
    assert told == [key.id]


def test_closing_writes_what_waits(security: Security, store: SqliteStore) -> None:
    security.usage.append(USAGE)
    security.audit.refused(REFUSAL)
    assert security.close() == 0
    assert usage_rows(store) == [USAGE]
    assert [event for _, event in store.read_blocking(partial(AuditTable().latest, limit=9))] == [REFUSAL]


def test_what_could_not_be_written_at_the_end_is_told(
    security: Security, store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    security.usage.append(USAGE)
    store.close()
    assert security.close() == 1
    assert "usage.lost" in capsys.readouterr().out
