"""The application: its routes, each with a permission, behind one edge."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from pileus.api.edge import Edge
from pileus.api.openai import chat, models
from pileus.api.presence import Present
from pileus.api.route import GuardedRoute
from pileus.api.services import Services


class PileusApi(FastAPI):
    """FastAPI for its routes and its OpenAPI document, behind our own edge instead of its stack of middleware."""

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(self.router)


def create_app(services: Services) -> FastAPI:
    """The whole HTTP application. Raises where a route has no declared permission."""
    app = PileusApi(
        title="Pileus",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        routes=[*chat.ROUTES, *models.ROUTES],
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = services
    app.state.present = Present()
    refuse_unguarded(app)
    return app


def refuse_unguarded(app: FastAPI) -> None:
    """Default deny: whatever is not a guarded route does not start."""
    for route in app.routes:
        if not isinstance(route, GuardedRoute):
            raise TypeError(f"the route {route!r} does not declare a permission")
