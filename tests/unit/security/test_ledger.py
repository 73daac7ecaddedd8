"""Budgets: reserved in full, settled exactly, never overshot, remembered over a restart."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pileus.core.errors import QuotaExceeded, Unauthenticated, Unavailable
from pileus.core.ports import Price, Reservation
from pileus.core.records import Lane, Principal, UsageRecord
from pileus.security.ledger import UsageLedger, cost_micros
from pileus.security.service import Security
from pileus.security.usage import UsageJournal
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import ApiKey, Total
from pileus.testing.clock import ManualClock

PRICE = Price(prompt=100_000, completion=333_333)


class Collected(UsageJournal):
    """A journal that only keeps."""

    def __init__(self) -> None:
        self.rows: list[UsageRecord] = []

    @property
    def full(self) -> bool:
        return False

    def append(self, record: UsageRecord) -> None:
        self.rows.append(record)


def key(name: str, **budgets: int | None) -> ApiKey:
    return ApiKey(id=name, name=name, role="user", tenant="t", created_at=0.0, created_by="system", **budgets)  # type: ignore[arg-type]


def principal(name: str) -> Principal:
    return Principal(name, "t", "user", frozenset())


def usage(name: str, prompt: int, completion: int) -> UsageRecord:
    return UsageRecord(
        request_id="r",
        key_id=name,
        tenant="t",
        deployment="d",
        lane=Lane.ON_DEMAND,
        outcome="stop",
        at=0.0,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_micros=cost_micros(PRICE, prompt, completion),
    )


def opened(*keys: ApiKey) -> UsageLedger:
    ledger = UsageLedger(Collected())
    for one in keys:
        ledger.open_account(one, Total())
    return ledger


def test_the_worst_case_is_held_until_it_is_settled() -> None:
    ledger = opened(key("k", token_budget=100))
    first = ledger.reserve(principal("k"), PRICE, 10, 50)
    with pytest.raises(QuotaExceeded, match=r"may take 41 tokens, .* has 40 of 100 left \(60 are held"):
        ledger.reserve(principal("k"), PRICE, 1, 40)
    ledger.settle(first, usage("k", 10, 5))
    second = ledger.reserve(principal("k"), PRICE, 25, 60)
    assert ledger.accounts["k"].reserved_tokens == 85
    ledger.settle(second, usage("k", 25, 0))
    assert (ledger.accounts["k"].used_tokens, ledger.accounts["k"].reserved_tokens) == (40, 0)


def test_a_refusal_says_whether_waiting_helps() -> None:
    ledger = opened(key("k", token_budget=100))
    held = ledger.reserve(principal("k"), PRICE, 0, 90)
    with pytest.raises(QuotaExceeded) as soon:
        ledger.reserve(principal("k"), PRICE, 0, 20)
    ledger.settle(held, usage("k", 0, 90))
    with pytest.raises(QuotaExceeded) as never:
        ledger.reserve(principal("k"), PRICE, 0, 20)
    assert 0 < soon.value.retry_after_s < never.value.retry_after_s


def test_money_has_a_budget_of_its_own() -> None:
    ledger = opened(key("k", budget_micros=10))
    with pytest.raises(QuotaExceeded, match="11 micro-units, and this key's money budget has 10 of 10"):
        ledger.reserve(principal("k"), Price(prompt=1_000_000), 11, 0)
    ledger.reserve(principal("k"), Price(prompt=1_000_000), 10, 0)


def test_a_key_without_budgets_is_unlimited_and_still_counted() -> None:
    ledger = opened(key("k"))
    ledger.settle(ledger.reserve(principal("k"), PRICE, 10**12, 10**12), usage("k", 10**12, 0))
    assert ledger.accounts["k"].used_tokens == 10**12


def test_a_key_without_an_account_may_not_spend() -> None:
    with pytest.raises(Unauthenticated):
        opened().reserve(principal("k"), PRICE, 1, 1)


def test_a_reservation_is_settled_exactly_once() -> None:
    ledger = opened(key("k", token_budget=100))
    reservation = ledger.reserve(principal("k"), PRICE, 10, 10)
    ledger.settle(reservation, usage("k", 10, 1))
    with pytest.raises(ValueError, match="settled twice"):
        ledger.settle(reservation, usage("k", 10, 1))
    with pytest.raises(ValueError, match="settled twice"):
        ledger.settle(Reservation(principal("k"), 20, 5), usage("k", 10, 1))
    assert ledger.accounts["k"].used_tokens == 11


def test_no_work_begins_while_usage_cannot_be_recorded(store: SqliteStore) -> None:
    ledger = UsageLedger(UsageJournal(store, waiting_limit=1))
    ledger.open_account(key("k"), Total())
    running = ledger.reserve(principal("k"), PRICE, 1, 1)
    ledger.settle(ledger.reserve(principal("k"), PRICE, 1, 1), usage("k", 1, 1))
    with pytest.raises(Unavailable):
        ledger.reserve(principal("k"), PRICE, 1, 1)
    ledger.settle(running, usage("k", 1, 1))  # what runs may end


@pytest.mark.parametrize(
    ("prompt", "completion", "micros"), [(0, 0, 0), (1, 0, 1), (10, 0, 1), (11, 0, 2), (0, 3, 1), (0, 4, 2)]
)
def test_part_of_a_micro_unit_counts_as_one(prompt: int, completion: int, micros: int) -> None:
    assert cost_micros(PRICE, prompt, completion) == micros


async def test_budgets_survive_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    store = SqliteStore.open(tmp_path)
    before = Security.open(tmp_path, store, clock)
    made, secret = await before.keys.create("a", "user", token_budget=100, budget_micros=1000)
    caller = before.keys.authenticate(secret)
    before.ledger.settle(before.ledger.reserve(caller, PRICE, 40, 50), usage(made.id, 40, 20))
    assert before.close() == 0
    store.close()

    store = SqliteStore.open(tmp_path)
    after = Security.open(tmp_path, store, clock)
    (shown,) = await after.keys.list()
    assert (shown.used_tokens, shown.used_micros) == (60, cost_micros(PRICE, 40, 20))
    with pytest.raises(QuotaExceeded, match="has 40 of 100 left"):
        after.ledger.reserve(caller, PRICE, 1, 40)
    after.ledger.reserve(caller, PRICE, 1, 39)
    store.close()


class Spending(RuleBasedStateMachine):
    """Any interleaving of requests of a few keys: no budget is overshot, and everything adds up."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.journal = Collected()
        self.ledger = UsageLedger(self.journal)
        self.keys: dict[str, ApiKey] = {}
        self.held: dict[str, list[tuple[int, int]]] = {}

    @initialize(budgets=st.lists(st.tuples(*[st.none() | st.integers(0, 200)] * 2), min_size=1, max_size=3))
    def make_keys(self, budgets: list[Any]) -> None:
        for number, (tokens, micros) in enumerate(budgets):
            one = key(f"k{number}", token_budget=tokens, budget_micros=micros)
            self.keys[one.id], self.held[one.id] = one, []
            self.ledger.open_account(one, Total())

    @rule(target=running, number=st.integers(0, 2), prompt=st.integers(0, 80), completion=st.integers(0, 80))
    def reserve(self, number: int, prompt: int, completion: int) -> Any:
        name = f"k{number % len(self.keys)}"
        tokens, micros = prompt + completion, cost_micros(PRICE, prompt, completion)
        fits = self._fits(name, tokens, micros)
        try:
            reservation = self.ledger.reserve(principal(name), PRICE, prompt, completion)
        except QuotaExceeded:
            assert not fits, "refused although it fits"
            return None
        assert fits, "taken although it does not fit"
        self.held[name].append((tokens, micros))
        return reservation, prompt, completion

    @rule(taken=consumes(running), share=st.floats(0, 1))
    def settle(self, taken: Any, share: float) -> None:
        if taken is None:
            return
        reservation, prompt, completion = taken
        name = reservation.principal.key_id
        self.held[name].remove((reservation.tokens, reservation.cost_micros))
        self.ledger.settle(reservation, usage(name, prompt, int(completion * share)))

    @invariant()
    def nothing_overshoots_and_everything_adds_up(self) -> None:
        for name, one in self.keys.items():
            account = self.ledger.accounts[name]
            rows = [row for row in self.journal.rows if row.key_id == name]
            assert account.used_tokens == sum(row.prompt_tokens + row.completion_tokens for row in rows)
            assert account.used_micros == sum(row.cost_micros for row in rows)
            assert account.reserved_tokens == sum(tokens for tokens, _ in self.held[name])
            assert account.reserved_micros == sum(micros for _, micros in self.held[name])
            assert one.token_budget is None or account.used_tokens + account.reserved_tokens <= one.token_budget
            assert one.budget_micros is None or account.used_micros + account.reserved_micros <= one.budget_micros

    def _fits(self, name: str, tokens: int, micros: int) -> bool:
        rows = [row for row in self.journal.rows if row.key_id == name]
        used_tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows) + tokens
        used_micros = sum(row.cost_micros for row in rows) + micros
        one = self.keys[name]
        return (one.token_budget is None or used_tokens + sum(t for t, _ in self.held[name]) <= one.token_budget) and (
            one.budget_micros is None or used_micros + sum(m for _, m in self.held[name]) <= one.budget_micros
        )


TestSpending = Spending.TestCase
