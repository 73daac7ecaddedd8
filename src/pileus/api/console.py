"""`GET /console/`: the web console, a set of static files that talk to this API like any other client."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp

from pileus.api.route import PUBLIC, Call, GuardedRoute
from pileus.api.static import StaticFiles

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)


def routes() -> list[GuardedRoute]:
    """The files are public; what they show needs a key."""
    console = StaticFiles(Path(str(files("pileus.api") / "console")), policy=POLICY)

    async def file(call: Call) -> ASGIApp:
        return console.answer(call, call.path_params["name"] or "index.html")

    async def home(call: Call) -> ASGIApp:
        return RedirectResponse("/console/")

    return [
        GuardedRoute("GET", "/console/{name:path}", file, permission=PUBLIC, include_in_schema=False),
        GuardedRoute("GET", "/console", home, permission=PUBLIC, include_in_schema=False),
        GuardedRoute("GET", "/", home, permission=PUBLIC, include_in_schema=False),
    ]
