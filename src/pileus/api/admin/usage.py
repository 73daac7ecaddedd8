"""`/admin/v1/usage`: what each request used, oldest first."""

from typing import Final

from msgspec import Struct
from msgspec.structs import asdict
from starlette.types import ASGIApp

from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.records import UsageRecord
from pileus.security.permission import Permission

_DEFAULT_LIMIT: Final = 1000
_MOST: Final = 10_000


class UsageEntry(UsageRecord, frozen=True, kw_only=True):
    """A finished request; `sequence` rises with every one."""

    sequence: int


class UsageList(Struct, frozen=True):
    """Some entries, oldest first. What follows them comes with the last one's `sequence` as `after`."""

    data: list[UsageEntry]


async def read_usage(call: Call) -> ASGIApp:
    """At most `limit` requests (1,000 without it) from the first after the sequence number `after` on. A request is
    there a second or two after its end. None of it is text."""
    after = call.whole_number("after", 0, 0, 2**63 - 1)
    rows = await call.owned.usage.after(after, call.whole_number("limit", _DEFAULT_LIMIT, 1, _MOST))
    return JsonAnswer(UsageList([UsageEntry(**asdict(record), sequence=sequence) for sequence, record in rows]))


ROUTES = (
    GuardedRoute(
        "GET",
        "/admin/v1/usage",
        read_usage,
        permission=Permission.AUDIT_READ,
        gives=UsageList,
        query=("after", "limit"),
        tag="Admin",
    ),
)
