"""The application: its routes, each with a permission, behind one edge."""

import asyncio
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from pileus.api import console, docs, health
from pileus.api.admin import audit, deployments, keys, status
from pileus.api.edge import Edge
from pileus.api.openai import chat, completions, models
from pileus.api.presence import Present
from pileus.api.route import GuardedRoute
from pileus.api.services import Services

_DESCRIPTION: Final = "An LLM cloud that you own. OpenAI's clients work as they are: set their base URL to `/v1`."
# The pipeline's own spans and metrics replace FastAPI's, which would record request contents with errors.
_NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class PileusApi(FastAPI):
    """FastAPI for its routes and its OpenAPI document, with our own edge in place of its stack of middleware."""

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(self.router, self.state.services)


def create_app(services: Services) -> FastAPI:
    """The whole HTTP application. Raises `TypeError` where a route does not declare its permission.

    `app.state.closing` is an event to be set when the server stops, so that endless streams end.
    """
    app = PileusApi(
        title="Pileus",
        version=services.version,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        routes=[
            *chat.ROUTES,  # the busiest first: routes are tried in order
            *completions.ROUTES,
            *models.ROUTES,
            *health.ROUTES,
            *status.ROUTES,
            *deployments.ROUTES,
            *keys.ROUTES,
            *audit.ROUTES,
            *docs.routes(),
            *console.routes(),
        ],
    )
    app.state.services = services
    app.state.present = Present()
    app.state.closing = asyncio.Event()
    services.keys.on_closed.append(app.state.present.interrupt)
    refuse_unguarded(app)
    return app


def refuse_unguarded(app: FastAPI) -> None:
    """Default deny: what is not a guarded route does not start."""
    for route in app.routes:
        if not isinstance(route, GuardedRoute):
            raise TypeError(f"the route {route!r} does not declare a permission")
