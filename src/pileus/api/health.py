"""`/healthz`, `/readyz` (also `/health`) and `/metrics`: what a load balancer and a monitoring system ask."""

from typing import Final

from msgspec import Struct
from starlette.responses import Response
from starlette.types import ASGIApp

from pileus.api.errors import retry_headers
from pileus.api.route import PUBLIC, Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.security.permission import Permission

_PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health(Struct, frozen=True):
    """This process answers."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether every deployment has a replica that takes requests, or sleeps and has one when it is asked."""

    status: str
    ready: list[str]
    not_ready: list[str]


async def healthz(call: Call) -> ASGIApp:
    """Whether this process answers at all."""
    return JsonAnswer(Health("ok"))


async def readyz(call: Call) -> ASGIApp:
    """Whether every deployment can serve; 503 with the names of those that cannot."""
    directory = call.owned.directory
    names = directory.deployments()
    ready = [name for name in names if directory.ready(name) or directory.starting_s(name) is not None]
    missing = [name for name in names if name not in ready]
    if missing:
        return JsonAnswer(Readiness("not ready", ready, missing), retry_headers(1.0), 503)
    return JsonAnswer(Readiness("ok", ready, missing))


async def metrics(call: Call) -> ASGIApp:
    """Prometheus metrics."""
    return Response(call.owned.metrics.render(), media_type=_PROMETHEUS_TEXT)


ROUTES = (
    GuardedRoute("GET", "/healthz", healthz, permission=PUBLIC, gives=Health, tag="Health"),
    GuardedRoute("GET", "/readyz", readyz, permission=PUBLIC, gives=Readiness, tag="Health"),
    # As vLLM, SGLang and llama.cpp call it, and so the routers and probes that were made for them.
    GuardedRoute("GET", "/health", readyz, permission=PUBLIC, gives=Readiness, tag="Health"),
    GuardedRoute("GET", "/metrics", metrics, permission=Permission.METRICS_READ, gives=str, tag="Health"),
)
