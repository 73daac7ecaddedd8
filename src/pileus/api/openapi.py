"""`/openapi.json`, made from the very forms and records that the handlers use."""

from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from pileus.api.errors import ErrorBody
from pileus.api.route import GuardedRoute, Public

_MEDIA: dict[type, str] = {str: "text/plain", bytes: "application/octet-stream"}
_REF = "#/components/schemas/{name}"
_RETRY_HEADERS = {
    "retry-after": {"description": "With 429 and 503: whole seconds to wait.", "schema": {"type": "integer"}},
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": {"type": "integer"}},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of all routes that are in it."""
    routes = [route for route in app.routes if isinstance(route, GuardedRoute) and route.include_in_schema]
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
    answers, schemas = _answer_schemas(routes)
    requests, request_schemas = _request_schemas(routes)
    components = found.setdefault("components", {})
    components["schemas"] = {**schemas, **request_schemas}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "sk-pileus-..."}}
    for route in routes:
        for method in route.methods or ():
            _describe(found["paths"][route.path_format][method.lower()], route, requests, answers)
    return found


def _describe(
    operation: dict[str, Any], route: GuardedRoute, requests: dict[type, Any], answers: dict[type, Any]
) -> None:
    if not isinstance(route.permission, Public):
        operation["security"] = [{"key": []}]
        operation["description"] = f"{operation.get('description', '')}\n\nPermission: `{route.permission}`".strip()
    if route.takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": requests[route.takes]}},
        }
    if route.form is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": route.form.schema}},
        }
    operation["parameters"] = [
        *operation.get("parameters", []),
        *(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in route.param_convertors
        ),
        *({"name": name, "in": "query", "schema": {"type": "string"}} for name in sorted(route.query)),
        *(
            {"name": each.name, "in": "header", "schema": each.schema, "description": each.description}
            for each in route.headers
        ),
    ]
    content: dict[str, Any] = {}
    if route.gives is not None:
        content[_MEDIA.get(route.gives, "application/json")] = {"schema": answers[route.gives]}
    if route.streams is not None:
        content["text/event-stream"] = {"schema": answers[route.streams]}
    answer = {"200": {"description": "The answer", "content": content}} if content or not route.promises else {}
    operation["responses"] = {
        **answer,
        **_promise(route, answers),
        "default": {
            "description": "An error",
            "headers": _RETRY_HEADERS,
            "content": {"application/json": {"schema": answers[ErrorBody]}},
        },
    }


def _promise(route: GuardedRoute, answers: dict[type, Any]) -> dict[str, Any]:
    if route.promises is None:
        return {}
    content = {"application/json": {"schema": answers[route.promises]}}
    return {"202": {"description": "It goes on by itself; where to ask for it", "content": content}}


def _answer_schemas(routes: Iterable[GuardedRoute]) -> tuple[dict[type, Any], dict[str, Any]]:
    records = [
        record for route in routes for record in (route.gives, route.promises, route.streams) if record is not None
    ]
    kinds: list[type[Any]] = list(dict.fromkeys([*records, ErrorBody]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return dict(zip(kinds, schemas, strict=True)), components


def _request_schemas(routes: Iterable[GuardedRoute]) -> tuple[dict[type, Any], dict[str, Any]]:
    kinds = list(dict.fromkeys(route.takes for route in routes if route.takes is not None))
    schemas, definitions = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template=_REF.replace("{name}", "{model}")
    )
    return {kind: schemas[kind, "validation"] for kind in kinds}, definitions["$defs"]
