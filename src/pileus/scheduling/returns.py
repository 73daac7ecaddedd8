"""When those who are refused should come back: one after the other, as fast as they can be served.

If all were told the same, they would come back together and be refused again; a client that retries twice, as most do,
would be lost. So each is given a place in its tenant's line. Nothing is held for who has a place: the line moves more
slowly than requests are served, so that there is room for those in it beside whoever comes anew.
"""

from heapq import heappop, heappush

from msgspec import Struct

_LEAST_S = 1.0
_LONGEST_S = 60.0
_SHARE = 0.7  # of what can be served, for those who come back


class _Line(Struct):
    until: float  # its end, in monotonic seconds
    weight: float


class Returns:
    """The lines of tenants that were refused something of late. Tenants share what can be served by their weights."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._ends: list[tuple[float, str]] = []  # a heap with one entry for each line, from when it last was looked at
        self._weights = 0.0

    def __len__(self) -> int:
        return len(self._lines)

    def after_s(self, tenant: str, weight: float, wait_s: float, takes_s: float, now: float) -> float:
        """When to come back, seconds from now, with something that takes so long to serve and could be in `wait_s` at
        the earliest."""
        self._close(now)
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(now, weight)
            self._weights += weight
            heappush(self._ends, (now, tenant))
        place = min(max(line.until, now + wait_s, now + _LEAST_S), now + _LONGEST_S)
        line.until = place + takes_s * self._weights / (line.weight * _SHARE)
        return place - now

    def _close(self, now: float) -> None:
        """Forget the lines that have come to their end."""
        while self._ends and self._ends[0][0] < now:
            tenant = heappop(self._ends)[1]
            line = self._lines[tenant]
            if line.until >= now:
                heappush(self._ends, (line.until, tenant))
            else:
                del self._lines[tenant]
                self._weights -= line.weight
