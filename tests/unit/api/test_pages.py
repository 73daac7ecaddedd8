"""What browsers load: the console, `/docs` and the document behind it."""

import re

import httpx
import pytest

from pileus.api.route import GuardedRoute
from unit.api.bench import Bench


async def test_the_console_is_served_with_its_policy_and_asked_about_again(client: httpx.AsyncClient) -> None:
    page = await client.get("/console/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    again = await client.get("/console/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_console_is_found_without_its_slash(client: httpx.AsyncClient) -> None:
    assert (await client.get("/console")).headers["location"] == "/console/"
    assert (await client.get("/")).headers["location"] == "/console/"


@pytest.mark.parametrize(
    "path", ["/console/../app.py", "/console/%2e%2e/app.py", "/console//etc/passwd", "/console/none.js"]
)
async def test_no_path_leads_out_of_the_console(bench: Bench, path: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(bench.app), base_url="http://pileus") as stranger:
        response = await stranger.send(httpx.Request("GET", httpx.URL(f"http://pileus{path}")))
    assert response.status_code == 404


async def test_the_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (await client.get(path)).status_code == 200, path


async def test_the_document_describes_every_route_with_its_forms_and_its_permission(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    refs = re.findall(r"#/components/schemas/(\w+)", (await client.get("/openapi.json")).text)
    assert set(refs) <= set(schemas)
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatRequest"}
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert chat["security"] == [{"key": []}]
    assert "`generate`" in chat["description"]
    assert "messages" in schemas["ChatRequest"]["required"]
    for path in ("/v1/chat/completions", "/v1/completions"):
        operation = document["paths"][path]["post"]
        headers = {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == "header"}
        assert headers["x-pileus-lane"]["enum"] == ["on_demand", "continuous", "batch"]
        assert set(headers) == {"x-pileus-lane", "x-pileus-priority", "x-pileus-deadline-ms", "prefer"}
        assert set(operation["responses"]["default"]["headers"]) == {"retry-after", "retry-after-ms"}
    assert "service_tier" in schemas["ChatRequest"]["properties"]
    assert "service_tier" in schemas["ChatCompletionChunk"]["properties"]
    assert {"lanes", "max_priority", "weight", "tokens_per_s"} <= set(schemas["KeyWish"]["properties"])
    for route in bench.app.routes:
        assert isinstance(route, GuardedRoute)
        assert (route.path_format in document["paths"]) == route.include_in_schema
