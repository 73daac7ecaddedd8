"""`/admin/v1/me`, `status`, `series`, `events` and `live`: what the console and `pileus status` show."""

import asyncio
import time
from typing import Final

from msgspec import Struct
from msgspec.json import encode
from starlette.types import ASGIApp, Receive, Scope, Send

from pileus.api.admin.views import Deployment, deployment_view
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import STREAM_HEADERS, JsonAnswer
from pileus.core.errors import InvalidRequest
from pileus.core.records import Lane, Principal
from pileus.fleet.timeline import FleetEvent
from pileus.observability.series import Point
from pileus.security.permission import Permission

_TICK_S: Final = 1.0


class Me(Struct, frozen=True):
    """Whose key this is and what it may do."""

    key_id: str
    name: str
    role: str
    tenant: str
    permissions: list[str]
    lanes: list[Lane]
    max_priority: int


class Status(Struct, frozen=True):
    """The whole server."""

    version: str
    uptime_s: float
    deployments: list[Deployment]


class PointList(Struct, frozen=True):
    """Figures second by second, oldest first."""

    points: list[Point]


class EventList(Struct, frozen=True):
    """What happened to deployments and replicas, oldest first."""

    data: list[FleetEvent]


class LivePoint(Struct, frozen=True):
    """One event of `/admin/v1/live`."""

    point: Point
    status: Status
    events: list[FleetEvent]  # since the point before; with the first one, all that are kept


async def me(call: Call) -> ASGIApp:
    """Whose key this is."""
    return JsonAnswer(_me(call.principal))


def _me(who: Principal) -> Me:
    return Me(
        key_id=who.key_id,
        name=who.name,
        role=who.role,
        tenant=who.tenant,
        permissions=sorted(who.permissions),
        lanes=list(who.lanes),
        max_priority=who.max_priority,
    )


async def status(call: Call) -> ASGIApp:
    """Deployments and replicas at this moment."""
    return JsonAnswer(status_now(call))


async def series(call: Call) -> ASGIApp:
    """The last minutes, from `since` (Unix time) on."""
    return JsonAnswer(PointList(list(call.owned.series.points(_since(call)))))


async def events(call: Call) -> ASGIApp:
    """What happened of late, from `since` (Unix time) on, to one `deployment` or to all."""
    deployment = call.query_params.get("deployment", "")
    return JsonAnswer(EventList(call.owned.timeline.events(_since(call), deployment)))


async def live(call: Call) -> ASGIApp:
    """Server-sent events: `point` once a second."""
    return LiveStream(call)


class LiveStream:
    """Goes on until the client leaves, its key is revoked, or the server stops."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        points, timeline = self._call.owned.series, self._call.owned.timeline
        closing: asyncio.Event = scope["app"].state.closing
        last, told = time.time() - _TICK_S, 0.0
        async with self._call.presence():
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            while not closing.is_set():
                for point in points.points(last):
                    last = point.t
                    happened = timeline.events(told)
                    told = happened[-1].t if happened else told
                    live_point = LivePoint(point, status_now(self._call), happened)
                    event = b"event: point\ndata: " + encode(live_point) + b"\n\n"
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                await _closing_within(closing, _TICK_S)
            await send({"type": "http.response.body", "body": b""})


async def _closing_within(closing: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return


def status_now(call: Call) -> Status:
    services = call.owned
    return Status(
        version=services.version,
        uptime_s=max(0.0, time.time() - services.started_at),
        deployments=[deployment_view(services, each) for each in services.deployments.all()],
    )


def _since(call: Call) -> float:
    try:
        return float(call.query_params.get("since", "0"))
    except ValueError:
        raise InvalidRequest("`since` should be a Unix time", param="since") from None


ROUTES = (
    GuardedRoute("GET", "/admin/v1/me", me, permission=Permission.MODELS_READ, gives=Me, tag="Admin"),
    GuardedRoute("GET", "/admin/v1/status", status, permission=Permission.STATUS_READ, gives=Status, tag="Admin"),
    GuardedRoute(
        "GET",
        "/admin/v1/series",
        series,
        permission=Permission.STATUS_READ,
        gives=PointList,
        query=("since",),
        tag="Admin",
    ),
    GuardedRoute(
        "GET",
        "/admin/v1/events",
        events,
        permission=Permission.STATUS_READ,
        gives=EventList,
        query=("deployment", "since"),
        tag="Admin",
    ),
    GuardedRoute("GET", "/admin/v1/live", live, permission=Permission.STATUS_READ, streams=LivePoint, tag="Admin"),
)
