"""`/admin/v1/audit`: who did what, and what was refused."""

from typing import Final

from msgspec import Struct
from msgspec.structs import asdict
from starlette.types import ASGIApp

from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.records import AuditEvent
from pileus.security.permission import Permission

_DEFAULT_LIMIT: Final = 100
_MOST: Final = 1000


class AuditEntry(AuditEvent, frozen=True, kw_only=True):
    """An event as it was recorded; `sequence` rises with every one, also where the clock was set back."""

    sequence: int


class AuditList(Struct, frozen=True):
    """The newest events, newest first."""

    data: list[AuditEntry]


async def read_audit(call: Call) -> ASGIApp:
    """The newest `limit` events (100 without it), of one `action` where that is given. Refusals come within seconds."""
    limit = call.whole_number("limit", _DEFAULT_LIMIT, 1, _MOST)
    events = await call.owned.audit.latest(limit, call.query_params.get("action"))
    return JsonAnswer(AuditList([AuditEntry(**asdict(event), sequence=sequence) for sequence, event in events]))


ROUTES = (
    GuardedRoute(
        "GET",
        "/admin/v1/audit",
        read_audit,
        permission=Permission.AUDIT_READ,
        gives=AuditList,
        query=("limit", "action"),
        tag="Admin",
    ),
)
