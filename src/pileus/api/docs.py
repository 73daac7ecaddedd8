"""`GET /docs`: Swagger UI from this machine, without a request to anywhere else."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from pileus.api.openapi import document
from pileus.api.route import PUBLIC, Call, GuardedRoute
from pileus.api.static import StaticFiles
from pileus.api.stream import JsonAnswer

# Swagger UI sets styles from its script, so its page may; scripts come from files only.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Pileus API</title>
    <link rel="icon" href="/console/img/mark.svg" type="image/svg+xml" />
    <link rel="stylesheet" href="/docs/swagger-ui.css" />
    <script src="/docs/swagger-ui-bundle.js" defer></script>
    <script src="/docs/start.js" defer></script>
  </head>
  <body><div id="ui"></div></body>
</html>
"""
_START: Final = 'SwaggerUIBundle({ url: "/openapi.json", dom_id: "#ui", deepLinking: true, syntaxHighlight: false });\n'


def routes() -> list[GuardedRoute]:
    """The page, its files (which fastapi-offline brings along) and the document that it shows."""
    swagger = StaticFiles(
        Path(str(files("fastapi_offline") / "static")), ("swagger-ui-bundle.js", "swagger-ui.css"), policy=POLICY
    )
    known: dict[str, Any] = {}

    async def page(call: Call) -> ASGIApp:
        return HTMLResponse(_PAGE, headers={"content-security-policy": POLICY})

    async def start(call: Call) -> ASGIApp:
        return Response(_START, media_type="text/javascript")

    async def file(call: Call) -> ASGIApp:
        return swagger.answer(call, call.path_params["name"])

    async def openapi(call: Call) -> ASGIApp:
        if not known:
            known.update(document(call.app))
        return JsonAnswer(known)

    return [
        GuardedRoute("GET", path, handler, permission=PUBLIC, include_in_schema=False)
        for path, handler in (
            ("/docs", page),
            ("/docs/start.js", start),
            ("/docs/{name}", file),
            ("/openapi.json", openapi),
        )
    ]
