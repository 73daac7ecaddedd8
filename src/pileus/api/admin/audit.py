"""`/admin/v1/audit`: who did what, and what was refused."""

from typing import Final

from msgspec import Struct
from msgspec.structs import asdict
from starlette.types import ASGIApp

from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.errors import InvalidRequest
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
    events = await call.owned.audit.latest(_limit(call), call.query_params.get("action"))
    return JsonAnswer(AuditList([AuditEntry(**asdict(event), sequence=sequence) for sequence, event in events]))


def _limit(call: Call) -> int:
    text = call.query_params.get("limit", str(_DEFAULT_LIMIT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) else 0
    if not 1 <= limit <= _MOST:
        raise InvalidRequest(f"`limit` should be a whole number from 1 to {_MOST}", param="limit")
    return limit


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
