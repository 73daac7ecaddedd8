"""What a key entitles to beside its role: lanes and priorities for its requests, and a share for its tenant."""

from collections.abc import Iterable, Sequence

from pileus.core.errors import InvalidRequest
from pileus.core.records import PRIORITY_LIMIT, Lane
from pileus.scheduling.fairness import Share
from pileus.store.tables import ApiKey

# Farther apart, and the lighter of two tenants that both have work waiting would hardly ever be served.
LEAST_WEIGHT = 0.001
GREATEST_WEIGHT = 1000.0
GREATEST_TOKENS_PER_S = 1e9


def shares_of(keys: Iterable[ApiKey]) -> dict[str, Share]:
    """Each tenant's share: the largest weight of its keys, and the rates of all of them together."""
    shares: dict[str, Share] = {}
    for key in keys:
        had = shares.get(key.tenant)
        shares[key.tenant] = (
            Share(key.weight, key.tokens_per_s)
            if had is None
            else Share(max(had.weight, key.weight), had.tokens_per_s + key.tokens_per_s)
        )
    return shares


def checked_lanes(lanes: Sequence[str]) -> tuple[Lane, ...]:
    """Each once, in the order of `Lane`."""
    if not lanes or not set(lanes) <= set(Lane):
        raise InvalidRequest(f"`lanes` must be one or more of {', '.join(Lane)}.", param="lanes")
    return tuple(lane for lane in Lane if lane in lanes)


def checked_max_priority(priority: int) -> int:
    if not 0 <= priority <= PRIORITY_LIMIT:
        raise InvalidRequest(f"`max_priority` must be a whole number from 0 to {PRIORITY_LIMIT}.", param="max_priority")
    return priority


def checked_weight(weight: float) -> float:
    if not LEAST_WEIGHT <= weight <= GREATEST_WEIGHT:
        raise InvalidRequest(f"`weight` must be a number from {LEAST_WEIGHT} to {GREATEST_WEIGHT:.0f}.", param="weight")
    return float(weight)


def checked_tokens_per_s(tokens_per_s: float, lanes: Sequence[Lane]) -> float:
    """A rate that its own key could not claim is a mistake."""
    if not 0 <= tokens_per_s <= GREATEST_TOKENS_PER_S:
        raise InvalidRequest("`tokens_per_s` must be a number from 0 to 10^9.", param="tokens_per_s")
    if tokens_per_s and Lane.CONTINUOUS not in lanes:
        raise InvalidRequest(
            "`tokens_per_s` holds in the continuous lane only: add `continuous` to `lanes`.", param="tokens_per_s"
        )
    return float(tokens_per_s)
