"""Attacks 10, 16, 19 and 30 on what people store."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from attacks.target import MIB, Target

FORM_HEAD = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
WISH = {"bytes": 3, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data"}
_GONE_WITHIN_S = 10.0


@pytest.fixture
def stranger(target: Target) -> Iterator[httpx.Client]:
    """A user of another tenant."""
    with target.http(target.server.admin_key) as admin:
        made = admin.post("/admin/v1/keys", json={"name": "stranger", "tenant": "elsewhere"}).json()
    with target.http(made["secret"]) as client:
        yield client


def contents(target: Target) -> list[Path]:
    """What lies in the blob store, drafts included."""
    return [path for path in (target.server.data / "blobs").rglob("*") if path.is_file()]


def stored(client: httpx.Client, name: str = "a.txt", content: bytes = b"mine") -> httpx.Response:
    return client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "user_data"})


def head(target: Target, *lines: str, path: str = "/v1/files") -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {target.user}\r\n"
        f"content-type: multipart/form-data; boundary=b\r\n{more}\r\n"
    ).encode()


def routes_of_objects(target: Target) -> list[tuple[str, str]]:
    """Every method and path that names a file or an upload, from the server's own document."""
    with target.http() as client:
        paths: dict[str, Any] = client.get("/openapi.json").json()["paths"]
    named = [path for path in paths if "{file_id}" in path or "{upload_id}" in path]
    return [(method.upper(), path) for path in named for method in paths[path]]


def test_10_what_is_another_tenants_is_not_found_on_any_route(target: Target, stranger: httpx.Client) -> None:
    with target.http() as owner:
        file = stored(owner).json()
        upload = owner.post("/v1/uploads", json=WISH).json()
        part = owner.post(f"/v1/uploads/{upload['id']}/parts", files={"data": b"abc"}).json()
        routes = routes_of_objects(target)
        assert len(routes) >= 6
        for method, path in routes:
            url = path.format(file_id=file["id"], upload_id=upload["id"])
            bodies: dict[str, dict[str, Any]] = {
                "parts": {"files": {"data": b"xyz"}},
                "complete": {"json": {"part_ids": [part["id"]]}},
            }
            body = bodies.get(path.rpartition("/")[2], {})
            answer = stranger.request(method, url, **body)
            assert answer.status_code == 404, (method, path)
            none = stranger.request(method, path.format(file_id="file-none", upload_id="upload_none"), **body)
            told = answer.text.replace(file["id"], "X").replace(upload["id"], "X")
            assert told == none.text.replace("file-none", "X").replace("upload_none", "X"), "no oracle"
        assert stranger.get("/v1/files").json()["data"] == []
        assert stranger.get("/v1/files", params={"after": file["id"]}).status_code == 404
        own = stranger.post("/v1/uploads", json=WISH).json()
        stolen = stranger.post(f"/v1/uploads/{own['id']}/complete", json={"part_ids": [part["id"]]})
        assert stolen.status_code == 400
        assert owner.get(f"/v1/files/{file['id']}/content").content == b"mine"
        done = owner.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": [part["id"]]}).json()
        assert owner.get(f"/v1/files/{done['file']['id']}/content").content == b"abc"


@pytest.mark.parametrize(
    "url", ["/v1/files/..%2f..%2fpileus.db/content", "/v1/files/%2e%2e/content", "/v1/files/a/../b"]
)
def test_10_an_id_is_not_a_path(target: Target, url: str) -> None:
    assert target.raw(target.head(request=f"GET {url} HTTP/1.1")).status == 404


def test_16_gigabytes_are_refused_at_their_announcement(target: Target) -> None:
    answer = target.raw(head(target, f"content-length: {1024 * MIB}"))
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"


def test_16_a_part_over_its_bound_is_refused_at_the_bound_and_leaves_nothing(target: Target) -> None:
    with target.http() as client:
        upload = client.post("/v1/uploads", json=WISH).json()
    before, kept = target.rss_bytes(), contents(target)

    def chunks() -> Iterator[bytes]:
        yield b"%x\r\n" % len(FORM_HEAD) + FORM_HEAD.replace(b'"file"', b'"data"') + b"\r\n"
        for _ in range(256):
            yield b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"

    answer = target.raw(head(target, "transfer-encoding: chunked", path=f"/v1/uploads/{upload['id']}/parts"), chunks())
    assert answer.status == 413
    assert target.rss_bytes() - before < 10 * MIB
    assert contents(target) == kept


def test_16_endless_fields_and_headers_are_not_collected(target: Target) -> None:
    kept = contents(target)
    field = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n'
    for flood in (field + b"x" * MIB, b"--b\r\nx-a: " + b"x" * MIB, (field + b"batch\r\n") * 1000):
        answer = target.raw(head(target, f"content-length: {len(flood)}"), flood)
        assert answer.status == 400
    assert contents(target) == kept


def test_19_many_uploads_that_stop_half_way_leave_nothing_when_they_leave(target: Target) -> None:
    kept = set(contents(target))
    before = target.rss_bytes()
    with ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(target.connection())
            sock.sendall(head(target, f"content-length: {8 * MIB}") + FORM_HEAD + os.urandom(MIB))
        _wait_until(lambda: len(set(contents(target)) - kept) == 20)
        assert target.ask().status_code == 200
        assert target.rss_bytes() - before < 40 * MIB
    _wait_until(lambda: set(contents(target)) == kept)


@pytest.mark.parametrize(
    "name", ["../../x.pth", "..\\..\\x.pth", "/etc/passwd", "x\x00.txt", "x\x1b[2J", "..", "x\u202etxt.exe"]
)
def test_30_a_name_that_is_a_path_or_no_text_is_refused(target: Target, name: str) -> None:
    kept = contents(target)
    with target.http() as client:
        form = f'--b\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'
        headers = {"content-type": "multipart/form-data; boundary=b"}
        refused = client.post("/v1/files", content=form.encode(), headers=headers)
        assert refused.status_code == 400
        assert client.post("/v1/uploads", json=WISH | {"filename": name}).status_code == 400
    assert contents(target) == kept


def test_30_no_path_is_made_of_a_name(target: Target) -> None:
    with target.http() as client:
        made = stored(client, name="pileus.db").json()
        assert made["filename"] == "pileus.db"
        twin = stored(client, name="pileus.db", content=b"other").json()
        assert client.get(f"/v1/files/{made['id']}/content").content == b"mine"
        assert client.get(f"/v1/files/{twin['id']}/content").content == b"other"
    assert not [path for path in contents(target) if "pileus" in path.name]


def test_30_a_name_cannot_break_out_of_its_header(target: Target) -> None:
    with target.http() as client:
        made = stored(client, name='a";x="b\'; filename=c.exe').json()
        answer = client.get(f"/v1/files/{made['id']}/content")
    assert answer.headers["content-disposition"].count('"') == 2
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def _wait_until(holds: Any) -> None:
    deadline = time.monotonic() + _GONE_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
