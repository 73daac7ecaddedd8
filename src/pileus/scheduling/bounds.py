"""What may wait in front of a deployment, and what is said to whom and of whom."""

from msgspec import Struct

from pileus.core.records import Lane


class Bounds(Struct, frozen=True):
    """Of one deployment's queue. Tokens are counted as the worst case: prompt and longest answers."""

    max_requests: int
    max_tokens: int
    max_wait_s: float  # who waited longer leaves
    max_foreseen_s: float  # urgent work that would wait longer is refused at once


class Refusal(Struct, frozen=True):
    """Why a request may not wait, and when it is worth trying again."""

    reason: str
    retry_after_s: float


class Standing(Struct, frozen=True):
    """What one tenant has waiting in one lane; tokens as the worst case."""

    tenant: str
    lane: Lane
    requests: int
    tokens: int
