"""What keys entitle to: lanes and priorities for their requests, a share for their tenant."""

from pathlib import Path

import pytest
from sqlalchemy import update

from pileus.core.records import Lane
from pileus.scheduling.fairness import Share
from pileus.security.service import Security
from pileus.store import schema
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock

ALL_LANES = ("continuous", "batch", "on_demand")


async def test_a_key_carries_its_rights_and_a_plain_one_the_usual(security: Security) -> None:
    _, plain = await security.keys.create("a", "admin")
    key, rich = await security.keys.create("b", "user", lanes=ALL_LANES, max_priority=7)
    usual, more = security.keys.authenticate(plain), security.keys.authenticate(rich)
    assert (usual.lanes, usual.max_priority) == ((Lane.ON_DEMAND, Lane.BATCH), 0)
    assert (more.lanes, more.max_priority) == ((Lane.ON_DEMAND, Lane.CONTINUOUS, Lane.BATCH), 7)
    assert (key.lanes, key.weight, key.tokens_per_s) == (more.lanes, 1.0, 0.0)


async def test_a_tenant_has_the_largest_weight_and_all_rates_of_its_keys(security: Security) -> None:
    shares = security.keys.shares
    assert not shares
    await security.keys.create("a", "user", "news", weight=5, lanes=ALL_LANES, tokens_per_s=30)
    await security.keys.create("b", "user", "news", weight=2, lanes=ALL_LANES, tokens_per_s=12.5)
    await security.keys.create("c", "user", "desk", weight=0.5)
    assert shares == {"news": Share(5.0, 42.5), "desk": Share(0.5, 0.0)}


async def test_a_revoked_key_takes_its_share_with_it(security: Security) -> None:
    shares = security.keys.shares
    large, _ = await security.keys.create("a", "user", "news", weight=9, lanes=ALL_LANES, tokens_per_s=30)
    small, _ = await security.keys.create("b", "user", "news", weight=2)
    await security.keys.revoke(large.id)
    assert shares == {"news": Share(2.0, 0.0)}
    await security.keys.revoke(small.id)
    assert shares == {}


async def test_an_expired_key_takes_its_share_with_it_and_a_clock_set_back_returns_it(
    security: Security, clock: ManualClock
) -> None:
    shares = security.keys.shares
    await security.keys.create("a", "user", "news", weight=9, expires_at=clock.wall() + 10)
    for seconds, weight in ((9.5, 9), (0.5, None), (-1, 9), (100, None)):
        clock.set_wall(clock.wall() + seconds)
        security.keys.expire()
        assert shares == ({} if weight is None else {"news": Share(weight)})


async def test_shares_are_known_again_after_a_restart_but_for_closed_keys(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path)
    keys = Security.open(tmp_path, store, clock).keys
    await keys.create("a", "user", "news", weight=3, lanes=ALL_LANES, tokens_per_s=20, max_priority=4)
    closed, _ = await keys.create("b", "user", "desk", weight=3)
    await keys.create("c", "user", "late", expires_at=clock.wall() + 1)
    await keys.revoke(closed.id)
    clock.advance(1)
    store.close()
    store = SqliteStore.open(tmp_path)
    reopened = Security.open(tmp_path, store, clock).keys
    assert reopened.shares == {"news": Share(3.0, 20.0)}
    assert {key.name: key.max_priority for key in await reopened.list()} == {"a": 4, "b": 0, "c": 0}
    store.close()


async def test_a_lane_that_only_a_later_pileus_knew_is_no_right_here(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path)
    _, secret = await Security.open(tmp_path, store, clock).keys.create("a", "user")
    await store.write(lambda tx: tx.execute(update(schema.api_key).values(lanes="express,batch")))
    assert Security.open(tmp_path, store, clock).keys.authenticate(secret).lanes == (Lane.BATCH,)
    store.close()


@pytest.mark.parametrize("weight", [0.001, 1000])
async def test_weights_may_differ_a_millionfold(security: Security, weight: float) -> None:
    key, _ = await security.keys.create("a", "user", weight=weight)
    assert security.keys.shares["default"].weight == key.weight == weight
