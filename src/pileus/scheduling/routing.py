"""Which replica takes a request: a pure function of what it needs and what each replica can take on."""

from collections.abc import Sequence

from msgspec import Struct


class ReplicaLoad(Struct, frozen=True):
    """One ready replica, as its credit tells it."""

    slots: int
    kv_blocks: int
    free_slots: int
    free_kv_blocks: int


def least_loaded(slots: int, kv_blocks: int, replicas: Sequence[ReplicaLoad]) -> int | None:
    """The index of the replica with the largest free share of its scarcer resource; None if the request fits nowhere.

    An idle replica takes any request: what it predicts to need may be more than there is, what it will need may not.
    """
    best, best_share = None, -1.0
    for index, replica in enumerate(replicas):
        idle = replica.free_slots >= replica.slots
        if not idle and (replica.free_slots < slots or replica.free_kv_blocks < kv_blocks):
            continue
        share = min(replica.free_slots / replica.slots, replica.free_kv_blocks / replica.kv_blocks)
        if share > best_share:
            best, best_share = index, share
    return best


class AnswerLength:
    """How long a deployment's answers tend to be: KV space is reserved by prediction, not for the worst case."""

    def __init__(self, initial: float = 128.0, memory: float = 0.98) -> None:
        self._mean = initial
        self._memory = memory

    def observe(self, tokens: int) -> None:
        """One answer's length."""
        self._mean = self._memory * self._mean + (1 - self._memory) * tokens

    def predict(self, max_tokens: int) -> int:
        """Tokens that an answer of at most `max_tokens` will probably have."""
        return min(max_tokens, round(self._mean))
