"""Who fails too often, or is much slower than the others, sits out for a while: outlier ejection, after Envoy's.

Such a replica is given nothing for some seconds, and for twice as long each time that it happens again. Never more than
half of them sit out: when most fail, the fault is elsewhere.
"""

from statistics import median_low

from msgspec import Struct

FAILURES = 5  # in a row
BASE_S = 5.0
LONGEST_S = 300.0
MOST_SHARE = 0.5
SLOW = 4.0  # times as long as is usual
LEAST_SLOW_STEP_S = 0.01  # nobody notices a shorter step
_USUAL_FOR_S = 1.0


class _Record(Struct):
    failures: int = 0  # in a row
    ejections: int = 0
    until: float = 0.0
    step_s: float = 0.0  # as last measured; 0 before
    token_s: float = 0.0


class Outliers:
    """Times are monotonic seconds, given by the caller."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._latest = 0.0  # when the last of those that sit out will be back
        self._usual = (0.0, 0.0)  # step and token, in seconds
        self._usual_until = 0.0

    def add(self, replica: str) -> None:
        self._records[replica] = _Record()

    def remove(self, replica: str) -> None:
        self._records.pop(replica, None)

    def observe(self, replica: str, *, ok: bool, now: float) -> bool:
        """How a request there ended. True when the replica is ejected by it."""
        record = self._records.get(replica)
        if record is None:
            return False
        if ok:
            record.failures = 0
            if now > record.until + LONGEST_S:
                record.ejections = 0
            return False
        record.failures += 1
        return record.failures >= FAILURES and self._eject(record, now)

    def measured(self, replica: str, step_s: float, token_s: float, now: float) -> bool:
        """How long its steps, and the tokens in them, took of late. True when the replica is ejected for it.

        Steps are long where much is prefilled in them, and tokens where few share a step; where both are, by the
        median of all replicas, the replica itself is slow.
        """
        record = self._records.get(replica)
        if record is None or record.step_s == step_s:
            return False
        record.step_s, record.token_s = step_s, token_s
        usual_step_s, usual_token_s = self._usually(now)
        slow = step_s > max(SLOW * usual_step_s, LEAST_SLOW_STEP_S) and token_s > SLOW * usual_token_s
        return slow and self._eject(record, now)

    def out(self, replica: str, now: float) -> bool:
        """Whether it sits out."""
        return now < self.back_at(replica)

    def back_at(self, replica: str) -> float:
        """When it may be given something again, or might since."""
        record = self._records.get(replica)
        return 0.0 if record is None else record.until

    def _eject(self, record: _Record, now: float) -> bool:
        """Unless it sits out already, or too many do."""
        out = sum(now < other.until for other in self._records.values())
        if now < record.until or out + 1 > MOST_SHARE * len(self._records):
            return False
        record.until = now + min(LONGEST_S, BASE_S * 2**record.ejections)
        self._latest = max(self._latest, record.until)
        record.ejections += 1
        record.failures = 0
        return True

    def any_out(self, now: float) -> bool:
        """Whether there may be somebody who sits out."""
        return now < self._latest

    def _usually(self, now: float) -> tuple[float, float]:
        """The medians of what was measured, not worked out anew each time: there may be a thousand replicas."""
        if now >= self._usual_until:
            records = [record for record in self._records.values() if record.step_s]
            self._usual = (
                median_low(record.step_s for record in records),
                median_low(record.token_s for record in records),
            )
            self._usual_until = now + _USUAL_FOR_S
        return self._usual
