"""The queue in front of a deployment: what waits, waits here, in bounds, and is refused at once beyond them."""

from collections import deque
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

_RATE_MEMORY = 0.9  # weight of the past in the measured service rate
_LEAST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0


class Waiting(Protocol):
    """What admission knows of a request."""

    @property
    def tokens(self) -> int:
        """The worst case: prompt and longest answer, over all choices."""
        ...


T = TypeVar("T", bound=Waiting)


class Refusal(Struct, frozen=True):
    """Why a request may not wait, and when it is worth trying again."""

    reason: str
    retry_after_s: float


class AdmissionQueue(Generic[T]):
    """First come, first served, bounded in requests and tokens. Times are monotonic seconds, given by the caller."""

    def __init__(self, max_requests: int, max_tokens: int, max_wait_s: float) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._max_wait_s = max_wait_s
        self._queue: deque[tuple[float, T]] = deque()
        self._tokens = 0
        self._tokens_per_s = 0.0
        self._served_at: float | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def tokens(self) -> int:
        """Tokens waiting, as the worst case."""
        return self._tokens

    def offer(self, item: T, now: float) -> Refusal | None:
        """Queue the item, or say why not."""
        if len(self._queue) >= self._max_requests:
            return Refusal(f"{len(self._queue)} requests are waiting already", self._retry_after())
        if self._queue and self._tokens + item.tokens > self._max_tokens:
            return Refusal(f"{self._tokens} tokens are waiting already", self._retry_after())
        self._queue.append((now + self._max_wait_s, item))
        self._tokens += item.tokens
        return None

    def put_back(self, item: T, now: float) -> None:
        """Queue an item again, ahead of all others: it was admitted before and lost its replica."""
        self._queue.appendleft((now + self._max_wait_s, item))
        self._tokens += item.tokens

    def head(self) -> T | None:
        """Whose turn it is."""
        return self._queue[0][1] if self._queue else None

    def take(self) -> T:
        """Remove the head."""
        _, item = self._queue.popleft()
        self._tokens -= item.tokens
        return item

    def withdraw(self, item: T) -> bool:
        """Remove the item wherever it stands; false if it does not wait."""
        for index, (_, waiting) in enumerate(self._queue):
            if waiting is item:
                del self._queue[index]
                self._tokens -= item.tokens
                return True
        return False

    def expire(self, now: float) -> list[T]:
        """Remove and return what has waited too long."""
        expired = [item for due, item in self._queue if due <= now]
        for item in expired:
            self.withdraw(item)
        return expired

    def next_expiry(self) -> float | None:
        """When `expire` will next have something to return."""
        return min((due for due, _ in self._queue), default=None)

    def served(self, tokens: int, now: float) -> None:
        """Learn how fast requests leave, for the time to retry after."""
        if self._served_at is not None and now > self._served_at:
            rate = tokens / (now - self._served_at)
            self._tokens_per_s = _RATE_MEMORY * self._tokens_per_s + (1 - _RATE_MEMORY) * rate
        self._served_at = now

    def _retry_after(self) -> float:
        if self._tokens_per_s == 0:
            return _LEAST_RETRY_S
        return min(_LONGEST_RETRY_S, max(_LEAST_RETRY_S, self._tokens / self._tokens_per_s))
