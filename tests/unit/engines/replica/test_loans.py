"""What other gateways were given on a replica, and how that is given back."""

from pileus.core.records import Credit
from pileus.engines.replica.loans import Loans


def sums(loans: Loans) -> tuple[int, int, int]:
    return loans.slots, loans.kv_blocks, loans.running


def test_a_loan_counts_until_the_replica_tells_of_it_and_runs_until_its_end() -> None:
    changes: list[None] = []
    loans = Loans(lambda: changes.append(None))
    first, second = loans.lend(Credit(2, 10)), loans.lend(Credit(1, 5))
    assert sums(loans) == (3, 15, 2)
    first.counted()
    assert sums(loans) == (1, 5, 2)
    assert len(changes) == 1
    first.end()
    assert sums(loans) == (1, 5, 1)
    second.end()
    assert sums(loans) == (0, 0, 0)


def test_what_is_told_twice_counts_once() -> None:
    loans = Loans(lambda: None)
    loan = loans.lend(Credit(1, 5))
    for _ in range(2):
        loan.counted()
        loan.end()
    assert sums(loans) == (0, 0, 0)
