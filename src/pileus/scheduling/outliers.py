"""Who fails too often sits out for a while: outlier ejection, after Envoy's.

A replica whose requests fail in a row is given nothing for some seconds, and for twice as long each time that it
happens again. Never more than half of them sit out: when most fail, the fault is elsewhere.
"""

from msgspec import Struct

FAILURES = 5  # in a row
BASE_S = 5.0
LONGEST_S = 300.0
MOST_SHARE = 0.5


class _Record(Struct):
    failures: int = 0  # in a row
    ejections: int = 0
    until: float = 0.0


class Outliers:
    """Times are monotonic seconds, given by the caller."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

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
        if record.failures < FAILURES or self.out(replica, now) or not self._may_eject(now):
            return False
        record.until = now + min(LONGEST_S, BASE_S * 2**record.ejections)
        record.ejections += 1
        record.failures = 0
        return True

    def out(self, replica: str, now: float) -> bool:
        """Whether it sits out."""
        record = self._records.get(replica)
        return record is not None and now < record.until

    def _may_eject(self, now: float) -> bool:
        out = sum(now < record.until for record in self._records.values())
        return out + 1 <= MOST_SHARE * len(self._records)
