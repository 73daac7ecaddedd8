"""Keys: made once, recognised in memory, closed at once, on record."""

import asyncio
import hmac
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.core.errors import InvalidRequest, NotFound, OperatorError, RateLimited, Unauthenticated, Unavailable
from pileus.security.guesses import LIMIT, WINDOW_S
from pileus.security.keys import KeyService
from pileus.security.ledger import UsageLedger
from pileus.security.pepper import PEPPER_FILE, Pepper
from pileus.security.permission import ROLES, Role
from pileus.security.ring import KeyRefused
from pileus.security.secret import LENGTH, PREFIX, _checksum, new_secret
from pileus.security.service import Security
from pileus.security.usage import UsageJournal
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import AuditTable
from pileus.testing.clock import ManualClock


def refusal(keys: KeyService, secret: str) -> str:
    with pytest.raises(KeyRefused) as caught:
        keys.authenticate(secret)
    return caught.value.reason


async def test_a_new_key_opens_and_says_who_holds_it(security: Security) -> None:
    key, secret = await security.keys.create("laptop", "user", tenant="acme")
    principal = security.keys.authenticate(secret)
    assert (principal.key_id, principal.name, principal.tenant, principal.role) == (key.id, "laptop", "acme", "user")
    assert principal.permissions == set(ROLES[Role.USER])


async def test_a_key_is_recognised_after_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path)
    key, secret = await Security.open(tmp_path, store, clock).keys.create("a", "admin")
    store.close()
    store = SqliteStore.open(tmp_path)
    reopened = Security.open(tmp_path, store, clock).keys
    assert reopened.authenticate(secret).key_id == key.id
    store.close()


async def test_the_secret_is_nowhere_in_the_data_folder(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path)
    _, secret = await Security.open(tmp_path, store, clock).keys.create("a", "admin")
    store.close()
    kept = b"".join([file.read_bytes() for file in tmp_path.glob("*")])  # noqa: ASYNC240 - nothing else runs here
    assert secret.removeprefix(PREFIX)[:20].encode() not in kept


async def test_what_is_stored_is_an_hmac_under_the_pepper(tmp_path: Path, security: Security) -> None:
    _, secret = await security.keys.create("a", "admin")
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection:
        (digest,) = connection.execute("SELECT digest FROM api_key").fetchone()
    assert digest == hmac.digest((tmp_path / PEPPER_FILE).read_bytes(), secret.encode(), "sha256")


async def test_every_refusal_has_its_reason_and_the_same_code(security: Security, clock: ManualClock) -> None:
    keys = security.keys
    _, short = await keys.create("a", "user", expires_at=clock.wall() + 10)
    closed, revoked = await keys.create("b", "user")
    await keys.revoke(closed.id)
    clock.advance(10)
    found = {s: refusal(keys, s) for s in (new_secret(), short, revoked, "' OR '1'='1", revoked[:-1])}
    assert list(found.values()) == ["unknown", "expired", "revoked", "malformed", "malformed"]
    assert KeyRefused.code == Unauthenticated.code


async def test_no_refusal_repeats_what_was_sent(security: Security) -> None:
    for secret in (new_secret(), PREFIX + "x" * 49, "\x1b[31m"):
        with pytest.raises(KeyRefused) as caught:
            security.keys.authenticate(secret)
        assert secret not in caught.value.message


async def test_too_many_wrong_keys_are_told_to_wait_and_a_right_one_works(
    security: Security, clock: ManualClock
) -> None:
    _, right = await security.keys.create("a", "user")
    closed, revoked = await security.keys.create("b", "user")
    await security.keys.revoke(closed.id)
    for n in range(LIMIT):
        with pytest.raises(KeyRefused):
            security.keys.authenticate("nonsense" if n % 2 else new_secret(), "10.0.0.1")
    for guess in ("nonsense", new_secret()):
        with pytest.raises(RateLimited) as refused:
            security.keys.authenticate(guess, "10.0.0.1")
        assert refused.value.retry_after_s == WINDOW_S
    assert security.keys.authenticate(right, "10.0.0.1").name == "a"
    with pytest.raises(KeyRefused, match="revoked"):
        security.keys.authenticate(revoked, "10.0.0.1")
    with pytest.raises(KeyRefused):
        security.keys.authenticate("nonsense", "10.0.0.2")
    clock.advance(WINDOW_S)
    with pytest.raises(KeyRefused):
        security.keys.authenticate("nonsense", "10.0.0.1")


async def test_a_closed_key_is_no_guess(security: Security) -> None:
    closed, revoked = await security.keys.create("a", "user")
    await security.keys.revoke(closed.id)
    assert {refusal(security.keys, revoked) for _ in range(LIMIT + 1)} == {"revoked"}


@settings(max_examples=200)
@given(position=st.integers(0, LENGTH - 1), char=st.characters())
def test_a_key_with_any_character_changed_is_refused(position: int, char: str) -> None:
    keys = _keys()
    _, secret = asyncio.run(keys.create("a", "user"))
    mutated = secret[:position] + char + secret[position + 1 :]
    if mutated == secret:
        keys.authenticate(secret)
    else:
        assert refusal(keys, mutated) == "malformed"


@settings(max_examples=50)
@given(shared=st.integers(len(PREFIX), LENGTH - 7))
def test_keys_that_share_a_prefix_are_separate_identities(shared: int) -> None:
    first = new_secret()
    body = first[:shared] + ("y" if first[shared] == "x" else "x") + first[shared + 1 : -6]
    second = body + _checksum(body)
    with mock.patch("pileus.security.keys.new_secret", side_effect=[first, second]):
        keys = _keys()
        one, two = (asyncio.run(keys.create(name, "user"))[0] for name in ("one", "two"))
    assert keys.authenticate(first).key_id == one.id
    assert keys.authenticate(second).key_id == two.id
    asyncio.run(keys.revoke(one.id))
    assert keys.authenticate(second).name == "two"


async def test_many_keys_are_each_their_own(security: Security) -> None:
    made = await asyncio.gather(*(security.keys.create(f"k{n}", "user") for n in range(50)))
    assert {security.keys.authenticate(secret).key_id for _, secret in made} == {key.id for key, _ in made}


async def test_a_revoked_key_is_refused_at_once_and_its_listeners_are_told(security: Security) -> None:
    key, secret = await security.keys.create("a", "user")
    told: list[str] = []
    security.keys.ring.on_closed.append(lambda key_id, _: told.append(key_id))
    security.keys.check(key.id)
    assert (await security.keys.revoke(key.id)).revoked_at is not None
    assert refusal(security.keys, secret) == "revoked"
    with pytest.raises(KeyRefused, match="revoked"):
        security.keys.check(key.id)
    await asyncio.gather(security.keys.revoke(key.id), security.keys.revoke(key.id))
    assert told == [key.id]


async def test_a_key_that_expires_is_told_once_when_its_time_has_come(security: Security, clock: ManualClock) -> None:
    brief, _ = await security.keys.create("a", "user", expires_at=clock.wall() + 10)
    await security.keys.create("b", "user", expires_at=clock.wall() + 1000)
    await security.keys.create("c", "user")
    told: list[tuple[str, str]] = []
    security.keys.ring.on_closed.append(lambda key_id, refusal: told.append((key_id, refusal.reason)))
    for seconds, expected in ((9.5, 0), (0.5, 1), (1, 1)):
        clock.advance(seconds)
        security.keys.expire()
        assert told == [(brief.id, "expired")] * expected
    with pytest.raises(KeyRefused, match="expired"):
        security.keys.check(brief.id)


async def test_a_key_expires_again_where_the_clock_was_set_back(security: Security, clock: ManualClock) -> None:
    key, secret = await security.keys.create("a", "user", expires_at=clock.wall() + 10)
    told: list[str] = []
    security.keys.ring.on_closed.append(lambda key_id, _: told.append(key_id))
    for seconds, count in ((20, 1), (-20, 1), (20, 2)):
        clock.set_wall(clock.wall() + seconds)
        security.keys.expire()
        assert len(told) == count
    clock.set_wall(clock.wall() - 20)
    assert security.keys.authenticate(secret).key_id == key.id


async def test_a_revocation_outlives_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path)
    keys = Security.open(tmp_path, store, clock).keys
    key, secret = await keys.create("a", "user")
    await keys.revoke(key.id)
    store.close()
    store = SqliteStore.open(tmp_path)
    assert refusal(Security.open(tmp_path, store, clock).keys, secret) == "revoked"
    store.close()


async def test_revoking_an_unknown_key_is_not_found(security: Security) -> None:
    with pytest.raises(NotFound):
        await security.keys.revoke("key_none")


async def test_a_revocation_is_seen_through_when_its_caller_leaves(security: Security, store: SqliteStore) -> None:
    key, secret = await security.keys.create("a", "user")
    begun, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        assert go.wait(5)

    store.submit(hold)
    assert begun.wait(5)
    caller = asyncio.ensure_future(security.keys.revoke(key.id))
    await asyncio.sleep(0)
    caller.cancel()
    go.set()
    await asyncio.gather(*security.keys._acts)
    assert refusal(security.keys, secret) == "revoked"


async def test_acts_are_on_record_with_their_actor(security: Security) -> None:
    key, _ = await security.keys.create("a", "user", actor="key_boss")
    await security.keys.revoke(key.id, actor="key_boss")
    events = [event for _, event in await security.audit.latest(10)]
    assert [(event.action, event.actor, event.target, event.outcome) for event in events] == [
        ("key.revoke", "key_boss", key.id, "ok"),
        ("key.create", "key_boss", key.id, "ok"),
    ]


async def test_an_act_that_cannot_be_recorded_does_not_happen(
    security: Security, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = await security.keys.create("a", "user")

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(AuditTable, "insert", broken)
    with pytest.raises(sqlite3.OperationalError):
        await security.keys.create("b", "admin")
    with pytest.raises(sqlite3.OperationalError):
        await security.keys.revoke(key.id)
    assert [shown.id for shown in await security.keys.list()] == [key.id]
    assert security.keys.authenticate(secret).key_id == key.id
    store.close()
    monkeypatch.undo()
    with pytest.raises(Unavailable):
        await security.keys.revoke(key.id)
    assert security.keys.authenticate(secret).key_id == key.id


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"role": "root"}, "role"),
        ({"tenant": " "}, "tenant"),
        ({"token_budget": -1}, "token_budget"),
        ({"budget_micros": 2**63}, "budget_micros"),
        ({"expires_at": 0.0}, "expires_at"),
        ({"expires_at": float("nan")}, "expires_at"),
        ({"expires_at": float("inf")}, "expires_at"),
        ({"lanes": []}, "lanes"),
        ({"lanes": ["express"]}, "lanes"),
        ({"lanes": ["batch", "Continuous"]}, "lanes"),
        ({"lanes": "batch"}, "lanes"),
        ({"max_priority": -1}, "max_priority"),
        ({"max_priority": 101}, "max_priority"),
        ({"weight": 0}, "weight"),
        ({"weight": -1.0}, "weight"),
        ({"weight": 1e-300}, "weight"),
        ({"weight": 1001}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": float("inf")}, "weight"),
        ({"tokens_per_s": -1, "lanes": ["continuous"]}, "tokens_per_s"),
        ({"tokens_per_s": float("nan"), "lanes": ["continuous"]}, "tokens_per_s"),
        ({"tokens_per_s": float("inf"), "lanes": ["continuous"]}, "tokens_per_s"),
        ({"tokens_per_s": 5}, "tokens_per_s"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused_by_its_name(
    security: Security, wishes: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await security.keys.create(**({"name": "a", "role": "user"} | wishes))  # type: ignore[arg-type]
    assert caught.value.param == param
    assert await security.keys.list() == []
    assert security.keys.shares == {}


def test_the_pepper_is_for_its_owner_only(tmp_path: Path) -> None:
    Pepper.load(tmp_path)
    file = tmp_path / PEPPER_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [PEPPER_FILE]
    file.chmod(0o644)
    with pytest.raises(OperatorError, match=f"chmod 600 {file}"):
        Pepper.load(tmp_path)


def test_a_damaged_pepper_is_refused(tmp_path: Path) -> None:
    Pepper.load(tmp_path)
    (tmp_path / PEPPER_FILE).write_bytes(b"short")
    with pytest.raises(OperatorError, match="damaged"):
        Pepper.load(tmp_path)


async def test_a_lost_pepper_is_told_and_not_replaced_while_keys_depend_on_it(
    tmp_path: Path, store: SqliteStore, security: Security, clock: ManualClock
) -> None:
    await security.keys.create("a", "user")
    (tmp_path / PEPPER_FILE).unlink()
    with pytest.raises(OperatorError, match="restore it from a backup"):
        Security.open(tmp_path, store, clock)
    assert not (tmp_path / PEPPER_FILE).exists()


def test_each_tenant_has_its_own_salt_which_lasts(tmp_path: Path) -> None:
    pepper = Pepper.load(tmp_path)
    assert pepper.salt("a") == Pepper.load(tmp_path).salt("a")
    assert len({pepper.salt("a"), pepper.salt("b"), pepper.digest(b"a"), Pepper(b"x" * 32).salt("a")}) == 4


class _Nowhere:
    """A store that remembers nothing; enough for keys that live as long as a test."""

    async def write(self, work: object) -> None:
        pass


def _keys() -> KeyService:
    store = _Nowhere()
    ledger = UsageLedger(UsageJournal(store))  # type: ignore[arg-type]
    return KeyService(store, Pepper(b"p" * 32), ledger, ManualClock())  # type: ignore[arg-type]
