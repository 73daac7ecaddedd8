"""The application: its routes, each with a permission, behind one edge."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from pileus.api import console, docs, health, jobs
from pileus.api.admin import adapters, audit, backup, deployments, keys, status, traffic, usage, webhooks
from pileus.api.admin import models as versions
from pileus.api.edge import Edge
from pileus.api.encoders import classify, embeddings, features, rerank
from pileus.api.forward import Forward
from pileus.api.openai import background, batches, chat, completions, files, fine_tuning, models, uploads
from pileus.api.presence import Present
from pileus.api.route import GuardedRoute
from pileus.api.services import EdgeServices, Services

_DESCRIPTION: Final = "An LLM cloud that you own. OpenAI's clients work as they are: set their base URL to `/v1`."
# The pipeline's own spans and metrics replace FastAPI's, which would record request contents with errors.
_NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


# The busiest first: routes are tried in order.
_ANSWERING: Final = (
    *chat.ROUTES,
    *completions.ROUTES,
    *embeddings.ROUTES,
    *classify.ROUTES,
    *rerank.ROUTES,
    *features.ROUTES,
)


class PileusApi(FastAPI):
    """FastAPI for its routes and its OpenAPI document, with our own edge in place of its stack of middleware."""

    def build_middleware_stack(self) -> ASGIApp:
        forward: Forward | None = self.state.forward
        return Edge(forward or self.router, self.state.services)


def create_app(services: Services) -> FastAPI:
    """The whole HTTP application. Raises `TypeError` where a route does not declare its permission.

    `app.state.closing` is an event to be set when the server stops, so that endless streams end.
    """
    further = (
        *models.ROUTES,
        *files.ROUTES,
        *uploads.ROUTES,
        *batches.ROUTES,
        *fine_tuning.ROUTES,
        *health.ROUTES,
        *jobs.ROUTES,
        *background.ROUTES,
        *webhooks.ROUTES,
        *status.ROUTES,
        *deployments.ROUTES,
        *versions.ROUTES,
        *adapters.ROUTES,
        *traffic.ROUTES,
        *keys.ROUTES,
        *audit.ROUTES,
        *usage.ROUTES,
        *backup.ROUTES,
        *docs.routes(),
        *console.routes(),
    )
    return _create(services, (*_ANSWERING, *further))


def create_gateway_app(services: EdgeServices, owner: Path) -> FastAPI:
    """What a further gateway process serves: the routes that ask models; all else goes to the owner's socket."""
    app = _create(services, _ANSWERING)
    app.state.forward = Forward(app.router, frozenset(route.path for route in _ANSWERING), owner)
    return app


def _create(services: EdgeServices, routes: Sequence[GuardedRoute]) -> FastAPI:
    app = PileusApi(
        title="Pileus",
        version=services.version,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        routes=list(routes),
    )
    app.state.services = services
    app.state.forward = None
    app.state.present = Present()
    app.state.closing = asyncio.Event()
    services.ring.on_closed.append(app.state.present.interrupt)
    refuse_unguarded(app)
    return app


def refuse_unguarded(app: FastAPI) -> None:
    """Default deny: what is not a guarded route does not start."""
    for route in app.routes:
        if not isinstance(route, GuardedRoute):
            raise TypeError(f"the route {route!r} does not declare a permission")
