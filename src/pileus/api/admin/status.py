"""`/admin/v1/me`, `status`, `series` and `live`: what the console and `pileus status` show."""

import asyncio
import time
from typing import Final

from msgspec import Struct
from msgspec.json import encode
from starlette.types import ASGIApp, Receive, Scope, Send

from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import STREAM_HEADERS, JsonAnswer
from pileus.core.errors import InvalidRequest
from pileus.core.records import Lane, Principal
from pileus.fleet.records import DeploymentStatus, ReplicaStatus
from pileus.observability.series import Point
from pileus.scheduling.admission import Standing
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


class Replica(Struct, frozen=True):
    """One replica process; the figures are of its present life."""

    id: str
    state: str
    pid: int | None
    epoch: int
    restarts: int
    last_error: str
    running: int
    waiting: int
    slots: int
    kv_blocks: int
    kv_blocks_used: int
    kv_blocks_cached: int
    tokens_per_s: float
    prompt_tokens: int
    generated_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    step_ms: float
    step_s: float  # in engine steps since its start
    infer_s: float  # of which in the model's kernels


class Deployment(Struct, frozen=True):
    """One deployment, with what waits in front of it."""

    name: str
    model: str
    engine: str
    aliases: list[str]
    waiting: int
    queue: list[Standing]
    replicas: list[Replica]


class Status(Struct, frozen=True):
    """The whole server."""

    version: str
    uptime_s: float
    deployments: list[Deployment]


class PointList(Struct, frozen=True):
    """Figures second by second, oldest first."""

    points: list[Point]


class LivePoint(Struct, frozen=True):
    """One event of `/admin/v1/live`."""

    point: Point
    status: Status


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


async def live(call: Call) -> ASGIApp:
    """Server-sent events: `point` once a second."""
    return LiveStream(call)


class LiveStream:
    """Goes on until the client leaves, its key is revoked, or the server stops."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        points = self._call.owned.series
        closing: asyncio.Event = scope["app"].state.closing
        last = time.time() - _TICK_S
        async with self._call.presence():
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            while not closing.is_set():
                for point in points.points(last):
                    last = point.t
                    event = b"event: point\ndata: " + encode(LivePoint(point, status_now(self._call))) + b"\n\n"
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
        deployments=[
            _deployment(each, services.scheduling.standings(each.info.name)) for each in services.directory.status()
        ],
    )


def _deployment(found: DeploymentStatus, queue: list[Standing]) -> Deployment:
    info = found.info
    replicas = [replica_view(each) for each in found.replicas]
    waiting = sum(standing.requests for standing in queue)
    return Deployment(info.name, info.model, info.engine, list(info.aliases), waiting, queue, replicas)


def replica_view(found: ReplicaStatus) -> Replica:
    stats = found.stats
    return Replica(
        id=found.id,
        state=found.state,
        pid=found.pid,
        epoch=found.epoch,
        restarts=found.restarts,
        last_error=found.last_error,
        running=stats.running,
        waiting=stats.waiting,
        slots=stats.slots,
        kv_blocks=stats.kv_blocks,
        kv_blocks_used=stats.kv_blocks_used,
        kv_blocks_cached=stats.kv_blocks_cached,
        tokens_per_s=found.tokens_per_s,
        prompt_tokens=stats.prompt_tokens,
        generated_tokens=stats.generated_tokens,
        prefix_query_tokens=stats.prefix_query_tokens,
        prefix_hit_tokens=stats.prefix_hit_tokens,
        step_ms=found.step_s * 1e3,
        step_s=stats.step_s,
        infer_s=stats.infer_s,
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
    GuardedRoute("GET", "/admin/v1/live", live, permission=Permission.STATUS_READ, streams=LivePoint, tag="Admin"),
)
