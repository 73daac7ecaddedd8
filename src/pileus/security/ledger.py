"""Quota and money: reserved before work, settled after it.

A key's account knows what was used and what is reserved. A request reserves its worst case, so that the requests of a
key together can never spend more than its budget, and gives back what it did not need. All of this is in memory and
immediate. Usage rows follow in batches (`security.usage`); what a crash leaves unwritten is lost in the customer's
favour.
"""

from collections.abc import Mapping

from msgspec import Struct

from pileus.core.errors import QuotaExceeded, Unauthenticated, Unavailable
from pileus.core.ports import Price, Reservation
from pileus.core.records import Principal, UsageRecord
from pileus.security.usage import UsageJournal
from pileus.store.tables import ApiKey, Total

SOON_S = 1.0  # running requests hold the rest: some of it may come back
LATER_S = 3600.0  # only a higher budget helps


class Account(Struct):
    """One key's budgets (`None` is unlimited), use and reservations."""

    token_budget: int | None = None
    budget_micros: int | None = None
    requests: int = 0
    used_tokens: int = 0
    used_micros: int = 0
    reserved_tokens: int = 0
    reserved_micros: int = 0

    def refusal(self, tokens: int, micros: int) -> str | None:
        """Which budget cannot bear this much more, if any."""
        if self.token_budget is not None and self.used_tokens + self.reserved_tokens + tokens > self.token_budget:
            return "token"
        if self.budget_micros is not None and self.used_micros + self.reserved_micros + micros > self.budget_micros:
            return "money"
        return None


class UsageLedger:
    """See `core.ports.Ledger`. For one thread, the event loop's."""

    def __init__(self, journal: UsageJournal) -> None:
        self._journal = journal
        self._accounts: dict[str, Account] = {}
        self._open: dict[int, Reservation] = {}

    def open_account(self, key: ApiKey, so_far: Total) -> None:
        """A key may spend from now on; `so_far` is what it spent before."""
        self._accounts[key.id] = Account(
            token_budget=key.token_budget,
            budget_micros=key.budget_micros,
            requests=so_far.requests,
            used_tokens=so_far.tokens,
            used_micros=so_far.cost_micros,
        )

    @property
    def accounts(self) -> Mapping[str, Account]:
        return self._accounts

    def reserve(self, principal: Principal, price: Price, prompt_tokens: int, completion_tokens: int) -> Reservation:
        """Raises `QuotaExceeded`; also `Unavailable` while usage rows cannot be written and no more can be kept."""
        account = self._accounts.get(principal.key_id)
        if account is None:
            raise Unauthenticated("This key has no account.")
        if self._journal.full:
            raise Unavailable("Usage cannot be recorded at present.", retry_after_s=SOON_S)
        tokens = prompt_tokens + completion_tokens
        micros = cost_micros(price, prompt_tokens, completion_tokens)
        if which := account.refusal(tokens, micros):
            raise _quota_exceeded(account, which, tokens, micros)
        account.reserved_tokens += tokens
        account.reserved_micros += micros
        reservation = Reservation(principal, tokens, micros)
        self._open[id(reservation)] = reservation
        return reservation

    def settle(self, reservation: Reservation, usage: UsageRecord) -> None:
        """Raises `ValueError` for a reservation that is settled already."""
        if self._open.get(id(reservation)) is not reservation:
            raise ValueError("settled twice")
        del self._open[id(reservation)]
        account = self._accounts[reservation.principal.key_id]
        account.reserved_tokens -= reservation.tokens
        account.reserved_micros -= reservation.cost_micros
        account.requests += 1
        account.used_tokens += usage.prompt_tokens + usage.completion_tokens
        account.used_micros += usage.cost_micros
        self._journal.append(usage)


def cost_micros(price: Price, prompt_tokens: int, completion_tokens: int) -> int:
    """What these tokens cost; part of a micro-unit counts as one. Grows with the tokens, so that a settlement never
    exceeds its reservation."""
    return -(-(prompt_tokens * price.prompt + completion_tokens * price.completion) // 1_000_000)


def _quota_exceeded(account: Account, which: str, tokens: int, micros: int) -> QuotaExceeded:
    budget, used, reserved, wanted = (
        (account.token_budget or 0, account.used_tokens, account.reserved_tokens, tokens)
        if which == "token"
        else (account.budget_micros or 0, account.used_micros, account.reserved_micros, micros)
    )
    left = max(budget - used - reserved, 0)
    unit = "tokens" if which == "token" else "micro-units"
    return QuotaExceeded(
        f"This request may take {wanted} {unit}, and this key's {which} budget has {left} of {budget} left"
        + (f" ({reserved} are held by running requests)." if reserved else "."),
        retry_after_s=SOON_S if used + wanted <= budget else LATER_S,
    )
