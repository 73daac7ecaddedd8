"""How a request wants to be scheduled: three headers of ours, and OpenAI's `service_tier`.

A wish beyond the key's rights is refused, never trimmed. A request without any costs a look-up for each header.
"""

import re
from typing import Final, Literal

from msgspec import Struct

from pileus.api.edge import DEADLINE_HEADER, LANE_HEADER, PRIORITY_HEADER
from pileus.api.route import Call, Header
from pileus.core.errors import InvalidRequest, PermissionDenied
from pileus.core.records import PRIORITY_LIMIT, Lane, Principal

Tier = Literal["auto", "default", "flex", "priority"]
ServedTier = Literal["default", "flex", "priority"]

TIERS: Final[dict[Lane, ServedTier]] = {Lane.ON_DEMAND: "default", Lane.CONTINUOUS: "priority", Lane.BATCH: "flex"}
_LANES_OF_TIERS: Final[dict[str, Lane]] = {tier: lane for lane, tier in TIERS.items()}  # `auto` leaves it to the key
_LANES: Final = {lane.encode(): lane for lane in Lane}
_LANE, _PRIORITY, _DEADLINE = LANE_HEADER.decode(), PRIORITY_HEADER.decode(), DEADLINE_HEADER.decode()
_WHOLE_NUMBER: Final = re.compile(rb"-?[0-9]{1,12}")

WISH_HEADERS: Final = (
    Header(
        _LANE,
        {"type": "string", "enum": list(Lane)},
        "One of the lanes that the key may use; without it, on-demand where it may. `service_tier` says the same in "
        "OpenAI's words: `default` is `on_demand`, `priority` is `continuous`, `flex` is `batch`.",
    ),
    Header(
        _PRIORITY,
        {"type": "integer", "minimum": -PRIORITY_LIMIT, "maximum": PRIORITY_LIMIT, "default": 0},
        "Among the requests of the same tenant, up to the highest that the key may use; higher goes first.",
    ),
    Header(
        _DEADLINE,
        {"type": "integer", "minimum": 1},
        "Milliseconds after which the answer is of no use. A request that would wait longer is refused at once.",
    ),
)


class Wish(Struct, frozen=True):
    """In the words of `GenerationRequest`."""

    lane: Lane
    priority: int
    deadline_s: float | None


def wish_of(call: Call, tier: Tier | None) -> Wish:
    """What this request wants. Raises `InvalidRequest`, or `PermissionDenied` where its key may not have that."""
    values, principal = call.head.values, call.principal
    priority, deadline = values.get(PRIORITY_HEADER), values.get(DEADLINE_HEADER)
    return Wish(
        lane=_lane(values.get(LANE_HEADER), tier, principal),
        priority=0 if priority is None else _priority(priority, principal),
        deadline_s=None if deadline is None else _deadline_s(deadline, call.services.settings.limits.request_timeout_s),
    )


def _lane(header: bytes | None, tier: Tier | None, principal: Principal) -> Lane:
    by_tier = None if tier is None else _LANES_OF_TIERS.get(tier)
    by_header = None if header is None else _LANES.get(header)
    if header is not None and by_header is None:
        raise InvalidRequest(f"the header {_LANE} should be one of {', '.join(Lane)}", param=_LANE)
    if by_header and by_tier and by_header is not by_tier:
        raise InvalidRequest(
            f"the header {_LANE} says {by_header}, but the `service_tier` {tier} is {by_tier}: send one of them",
            param=_LANE,
        )
    wanted = by_header or by_tier or next(iter(principal.lanes), Lane.ON_DEMAND)
    if wanted not in principal.lanes:
        allowed = ", ".join(f"{lane} (`service_tier` {TIERS[lane]})" for lane in principal.lanes) or "none"
        raise PermissionDenied(
            f"This key may not use the lane {wanted}. It may use: {allowed}.",
            param=_LANE if by_header else "service_tier",
        )
    return wanted


def _priority(header: bytes, principal: Principal) -> int:
    priority = _whole_number(_PRIORITY, header, -PRIORITY_LIMIT, PRIORITY_LIMIT)
    if priority > principal.max_priority:
        raise PermissionDenied(
            f"This key may not use the priority {priority}. It may use: {-PRIORITY_LIMIT} to {principal.max_priority}.",
            param=_PRIORITY,
        )
    return priority


def _deadline_s(header: bytes, longest_s: float) -> float:
    return _whole_number(_DEADLINE, header, 1, int(longest_s * 1000)) / 1000


def _whole_number(name: str, header: bytes, least: int, most: int) -> int:
    if _WHOLE_NUMBER.fullmatch(header) is None or not least <= int(header) <= most:
        raise InvalidRequest(f"the header {name} should be a whole number from {least} to {most}", param=name)
    return int(header)
