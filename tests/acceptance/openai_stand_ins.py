"""A pytest plugin for the `openai` client's own tests: real objects in place of the ids that they make up.

Their tests talk to a mock that knows every id. Before each request, this plugin makes what the request is about (a
file, an upload, a part, a batch) on the server, and puts its id where the made-up one stands; it adds our key, too.
Where a test wants the client to be given a certain content, that content is stored, and really read. Batches for
`/v1/responses`, which is not here yet, are asked for chats instead. For a further kind of object, add a function to
`STAND_INS`.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

API = os.environ["TEST_API_BASE_URL"]
KEY = os.environ["PILEUS_API_KEY"]
DATA = b"Example data"  # what their tests send as a part
CHAT = "/v1/chat/completions"
LINES = 2_000  # of a batch, which so is at work when it is cancelled


class Server:
    """Makes objects on the real server."""

    def __init__(self) -> None:
        self.content = DATA  # of the next file
        self._http = httpx.Client(base_url=API, headers={"authorization": f"Bearer {KEY}"}, trust_env=False)

    def file(self, purpose: str = "user_data") -> str:
        form = {"files": {"file": ("stand-in", self.content)}, "data": {"purpose": purpose}}
        return str(self._made("files", **form)["id"])

    def upload(self) -> str:
        wish = {"bytes": len(DATA), "filename": "stand-in", "mime_type": "text/plain", "purpose": "user_data"}
        return str(self._made("uploads", json=wish)["id"])

    def part(self, upload: str) -> str:
        return str(self._made(f"uploads/{upload}/parts", files={"data": DATA})["id"])

    def batch_input(self) -> str:
        body = {"model": "fake", "max_tokens": 8, "messages": [{"role": "user", "content": "stand in"}]}
        line = {"method": "POST", "url": CHAT, "body": body}
        lines = [json.dumps(line | {"custom_id": str(number)}) for number in range(LINES)]
        form = {"files": {"file": ("stand-in", "\n".join(lines).encode())}, "data": {"purpose": "batch"}}
        return str(self._made("files", **form)["id"])

    def batch(self) -> str:
        wish = {"input_file_id": self.batch_input(), "endpoint": CHAT, "completion_window": "24h"}
        return str(self._made("batches", json=wish)["id"])

    def _made(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.post(path, **body)
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made


Body = dict[str, Any]
# Gets the server, what the pattern found in the path, and the JSON body or query if there is one, to be changed; gives
# the new path.
StandIn = Callable[[Server, re.Match[str], Body], str]


def _file(server: Server, found: re.Match[str], _: Body) -> str:
    return f"/files/{server.file()}{found[1]}"


def _files(server: Server, found: re.Match[str], query: Body) -> str:
    if query.get("after") == "after":
        query["after"] = server.file()
    return found[0]


def _upload(server: Server, found: re.Match[str], body: Body) -> str:
    upload = server.upload()
    if body.get("part_ids") == ["string"]:
        body["part_ids"] = [server.part(upload)]
    if body.get("md5") == "md5":
        body["md5"] = hashlib.md5(DATA).hexdigest()
    return f"/uploads/{upload}{found[1]}"


def _batches(server: Server, found: re.Match[str], wish: Body) -> str:
    if wish.get("after") == "after":
        wish["after"] = server.batch()
    if wish.get("input_file_id") == "input_file_id":
        wish |= {"input_file_id": server.batch_input(), "endpoint": CHAT}
    return found[0]


def _batch(server: Server, found: re.Match[str], _: Body) -> str:
    return f"/batches/{server.batch()}{found[1]}"


STAND_INS: tuple[tuple[str, StandIn], ...] = (
    (r"/files/file_id(|/content)", _file),
    (r"/files", _files),
    (r"/uploads/upload_abc123(/\w+)", _upload),
    (r"/batches", _batches),
    (r"/batches/batch_id(|/cancel)", _batch),
)


def real(server: Server, request: httpx2.Request) -> httpx2.Request:
    """The request as it goes to the server."""
    request.headers["authorization"] = f"Bearer {KEY}"
    base = httpx2.URL(API)
    path = request.url.path.removeprefix(base.path)
    for pattern, stand_in in STAND_INS:
        if found := re.fullmatch(pattern, path):
            return _rewritten(server, request, base.path, found, stand_in)
    return request


def _rewritten(
    server: Server, request: httpx2.Request, prefix: str, found: re.Match[str], stand_in: StandIn
) -> httpx2.Request:
    is_json = request.headers.get("content-type", "") == "application/json" and request.content != b""
    wish = json.loads(request.content) if is_json else dict(request.url.params)
    known = dict(wish)
    url = request.url.copy_with(path=prefix + stand_in(server, found, wish))
    if wish == known:
        request.url = url
        return request
    if not is_json:
        request.url = url.copy_with(params=wish)
        return request
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    return httpx2.Request(request.method, url, headers=headers, json=wish, extensions=request.extensions)


class StoredInstead:
    """In place of their mock of HTTP: what shall be answered is stored, and the request goes to the server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def get(self, path: str) -> "StoredInstead":
        return self

    def mock(self, return_value: httpx2.Response) -> None:
        self._server.content = return_value.content


class Fixtures:
    """Registered after their plugins, so that it comes before them."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @pytest.fixture
    def respx2_mock(self) -> Iterator[StoredInstead]:
        yield StoredInstead(self._server)
        self._server.content = DATA


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    server = Server()
    session.config.pluginmanager.register(Fixtures(server))
    send, send_async = httpx2.Client.send, httpx2.AsyncClient.send

    def sent(client: httpx2.Client, request: httpx2.Request, **options: Any) -> httpx2.Response:
        return send(client, real(server, request), **options)

    async def sent_async(client: httpx2.AsyncClient, request: httpx2.Request, **options: Any) -> httpx2.Response:
        return await send_async(client, real(server, request), **options)

    httpx2.Client.send = sent  # type: ignore[method-assign, assignment]
    httpx2.AsyncClient.send = sent_async  # type: ignore[method-assign, assignment]
