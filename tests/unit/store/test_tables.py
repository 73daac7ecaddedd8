"""What the tables keep, they give back."""

from functools import partial

import pytest
from msgspec import structs
from sqlalchemy.exc import IntegrityError

from pileus.core.records import AuditEvent, Lane, UsageRecord
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import (
    ApiKey,
    AuditTable,
    DeploymentTable,
    KeyTable,
    StoredDeployment,
    Total,
    UsageTable,
)
from stored import usage_rows

KEY = ApiKey(
    id="key_1",
    name="laptop",
    role="user",
    tenant="default",
    created_at=1.5,
    created_by="system",
    expires_at=9.0,
    token_budget=2**62,
    budget_micros=0,
    lanes=(Lane.CONTINUOUS, Lane.BATCH),
    max_priority=5,
    weight=2.5,
    tokens_per_s=40.0,
)
USAGE = UsageRecord(
    request_id="req_1",
    key_id="key_1",
    tenant="default",
    deployment="d",
    lane=Lane.BATCH,
    outcome="stop",
    at=2.5,
    prompt_tokens=3,
    cached_tokens=2,
    completion_tokens=4,
    cost_micros=10,
    queue_s=0.1,
    prefill_s=0.2,
    decode_s=0.3,
    total_s=0.6,
)


def test_a_key_comes_back_as_it_was_written(store: SqliteStore) -> None:
    keys = KeyTable()
    store.write_blocking(lambda tx: keys.insert(tx, KEY, b"d" * 32))
    assert store.read_blocking(keys.all) == [(b"d" * 32, KEY)]


def test_two_keys_cannot_share_a_digest(store: SqliteStore) -> None:
    keys = KeyTable()
    store.write_blocking(lambda tx: keys.insert(tx, KEY, b"d" * 32))
    with pytest.raises(IntegrityError):
        store.write_blocking(lambda tx: keys.insert(tx, structs.replace(KEY, id="key_2"), b"d" * 32))


def test_a_revocation_keeps_its_first_time(store: SqliteStore) -> None:
    keys = KeyTable()
    store.write_blocking(lambda tx: keys.insert(tx, KEY, b"d" * 32))
    for at in (5.0, 6.0):
        store.write_blocking(partial(keys.set_revoked, key_id=KEY.id, at=at))
    assert store.read_blocking(keys.all)[0][1].revoked_at == 5.0


def test_a_usage_row_keeps_every_field(store: SqliteStore) -> None:
    store.write_blocking(lambda tx: UsageTable().insert(tx, "b1", [USAGE]))
    assert usage_rows(store) == [USAGE]


def test_totals_add_up_over_batches_and_a_repeated_batch_counts_once(store: SqliteStore) -> None:
    usage = UsageTable()
    for batch in ("b1", "b2", "b2"):
        store.write_blocking(partial(usage.insert, batch=batch, records=[USAGE, USAGE]))
    assert store.read_blocking(usage.totals) == {"key_1": Total(requests=4, tokens=28, cost_micros=40)}
    assert len(usage_rows(store)) == 4


def test_audit_events_come_back_newest_first_with_rising_numbers(store: SqliteStore) -> None:
    audit = AuditTable()
    events = [AuditEvent(at=-float(n), actor="a", tenant="t", action=f"x{n % 2}", target=str(n)) for n in range(4)]
    store.write_blocking(lambda tx: audit.insert(tx, events))
    assert store.read_blocking(lambda tx: audit.latest(tx, 3)) == [(4, events[3]), (3, events[2]), (2, events[1])]
    assert store.read_blocking(lambda tx: audit.latest(tx, 3, action="x0")) == [(3, events[2]), (1, events[0])]


def test_a_deployment_is_kept_as_it_was_put_last(store: SqliteStore) -> None:
    table = DeploymentTable()
    first, second = StoredDeployment("b", "{}", 1.0, "key_1"), StoredDeployment("a", "{}", 2.0, "key_1")
    changed = StoredDeployment("b", '{"replicas":2}', 3.0, "key_2")
    for row in (first, second, changed):
        store.write_blocking(partial(table.put, row=row))
    assert store.read_blocking(table.all) == [second, changed]
    store.write_blocking(lambda tx: table.delete(tx, "a"))
    assert store.read_blocking(table.all) == [changed]
