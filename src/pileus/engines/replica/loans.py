"""What other gateway processes were given on a replica, until the replica's own credit tells of it."""

from collections.abc import Callable

from pileus.core.records import Credit


class Loan:
    """One request's place."""

    __slots__ = ("_loans", "_needs", "_running")

    def __init__(self, loans: "Loans", needs: Credit) -> None:
        self._loans = loans
        self._needs: Credit | None = needs
        self._running = True

    def counted(self) -> None:
        """The replica's credit has it."""
        if self._needs is not None:
            self._loans.slots -= self._needs.slots
            self._loans.kv_blocks -= self._needs.kv_blocks
            self._needs = None
            self._loans.on_change()

    def end(self) -> None:
        """It has left the replica."""
        if self._running:
            self._running = False
            self._loans.running -= 1
            self.counted()


class Loans:
    """The sums over one replica."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.on_change = on_change
        self.slots = 0
        self.kv_blocks = 0
        self.running = 0  # requests

    def lend(self, needs: Credit) -> Loan:
        self.slots += needs.slots
        self.kv_blocks += needs.kv_blocks
        self.running += 1
        return Loan(self, needs)
