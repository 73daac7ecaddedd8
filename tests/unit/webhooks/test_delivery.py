"""One try of one delivery, to a real receiver on this machine."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from msgspec.json import decode, encode

from pileus.core.clock import SystemClock
from pileus.jobs.handler import JobFailed
from pileus.store.job_table import Job, Wish
from pileus.webhooks.addresses import AddressRefused, Unresolved
from pileus.webhooks.delivery import LIMIT_S, Courier, DeliverySpec, Undelivered
from pileus.webhooks.events import TEST, Event, Subject
from pileus.webhooks.signing import signed_headers

SECRET = b"s" * 32
EVENT = Event(id="evt_1", created_at=5, type="batch.completed", data=Subject("batch_1"))
OK = b"HTTP/1.1 204 No Content\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Lease:
    """As much of a `jobs.handler.Context` as a delivery looks at."""

    def __init__(self, url: str, event: Event = EVENT) -> None:
        spec = encode(DeliverySpec("wh_1", url, event))
        self.job = Job(id="job_1", kind="webhook", tenant="acme", key_id="key_1", spec=spec, created_at=0.0)
        self.told: list[str] = []
        self.wish = Wish.NONE

    def log(self, text: str, level: str = "info") -> None:
        self.told.append(text)


class Receiver:
    """Answers each connection with these bytes; with none it says nothing for as long as it is asked."""

    def __init__(self, answer: bytes | None = OK) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        if self._answer is None:
            await reader.read()
        else:
            writer.write(self._answer)
            await writer.drain()
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self.talk(reader, writer)

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        async with await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=context) as server:
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                for writer in self._writers:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()


@asynccontextmanager
async def courier(*addresses: str, limit_s: float = 10.0, looked_up: list[str] | None = None) -> AsyncIterator[Courier]:
    """One to whom every name has these addresses."""

    async def resolve(host: str, port: int) -> list[str]:
        if looked_up is not None:
            looked_up.append(host)
        return list(addresses or ("127.0.0.1",))

    made = Courier(lambda _: SECRET, resolve, SystemClock(), limit_s=limit_s)
    try:
        yield made
    finally:
        await made.close()


async def send(made: Courier, lease: Lease) -> dict[str, Any]:
    sent: dict[str, Any] = decode(await made(cast(Any, lease)))
    return sent


async def test_the_event_goes_to_the_address_that_was_checked_under_the_names_own_host() -> None:
    looked_up: list[str] = []
    async with Receiver().listening() as receiver, courier(looked_up=looked_up) as made:
        lease = Lease(f"http://receiver.invalid:{receiver.port}/hook?a=b")
        assert await send(made, lease) == {"status": 204}
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert lines[0] == "post /hook?a=b http/1.1"
    assert headers["host"] == f"receiver.invalid:{receiver.port}"
    assert body == encode(EVENT)
    assert decode(body) == {
        "id": "evt_1",
        "object": "event",
        "created_at": 5,
        "type": "batch.completed",
        "data": {"id": "batch_1"},
    }
    signed = signed_headers(SECRET, "evt_1", int(headers["webhook-timestamp"]), body)
    assert {name: value.lower() for name, value in signed.items()}.items() <= headers.items()
    assert looked_up == ["receiver.invalid"]
    assert lease.told[0].startswith("receiver.invalid answered 204 after ")


async def test_another_address_of_the_name_is_tried_where_one_is_not_to_be_reached() -> None:
    async with Receiver().listening() as receiver, courier("127.0.0.2", "127.0.0.1") as made:
        await send(made, Lease(f"http://receiver.invalid:{receiver.port}/"))
    assert len(receiver.requests) == 1


async def test_another_address_is_tried_where_one_says_nothing_and_there_is_time_left_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = httpx.AsyncHTTPTransport.handle_async_request
    waited_s: list[float] = []

    async def send_or_wait(inner: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.url.host == "127.0.0.2":
            waited_s.append(request.extensions["timeout"]["connect"])
            raise httpx.ConnectTimeout("it says nothing")
        return await real(inner, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", send_or_wait)
    async with Receiver().listening() as receiver, courier("127.0.0.2", "127.0.0.2", "127.0.0.1") as made:
        await send(made, Lease(f"http://receiver.invalid:{receiver.port}/"))
    assert len(receiver.requests) == 1
    assert len(waited_s) == 2
    assert sum(waited_s) < LIMIT_S


@pytest.mark.parametrize("wish", [Wish.CANCEL, Wish.EXPIRE])
async def test_what_nobody_is_to_be_told_any_more_is_not_sent(wish: Wish) -> None:
    async with Receiver().listening() as receiver, courier() as made:
        lease = Lease(f"http://receiver.invalid:{receiver.port}/")
        lease.wish = wish
        assert await made(cast(Any, lease)) == b""
    assert receiver.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 307 There\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
)
async def test_whatever_is_not_a_success_is_to_be_tried_again(answer: bytes) -> None:
    async with Receiver(answer).listening() as receiver, courier() as made:
        with pytest.raises(Undelivered):
            await send(made, Lease(f"http://receiver.invalid:{receiver.port}/"))
    assert len(receiver.requests) == 1  # a redirect is not followed


async def test_a_receiver_that_wants_no_more_is_not_asked_again() -> None:
    async with Receiver(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").listening() as receiver, courier() as made:
        with pytest.raises(JobFailed, match="answered 410"):
            await send(made, Lease(f"http://receiver.invalid:{receiver.port}/"))


async def test_a_test_is_sent_once() -> None:
    event = Event(id="evt_2", created_at=5, type=TEST, data=Subject("wh_1"))
    async with Receiver(b"HTTP/1.1 500 No\r\n\r\n").listening() as receiver, courier() as made:
        with pytest.raises(JobFailed, match="answered 500"):
            await send(made, Lease(f"http://receiver.invalid:{receiver.port}/", event))


async def test_a_silent_receiver_is_left() -> None:
    async with Receiver(None).listening() as receiver, courier(limit_s=0.2) as made:
        with pytest.raises(Undelivered, match=r"within 0\.2 s"):
            await send(made, Lease(f"http://receiver.invalid:{receiver.port}/"))


async def test_an_endless_answer_is_not_read() -> None:
    class Endless(Receiver):
        async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
            await reader.read()
            self.requests.append(b"left")

    async with Endless().listening() as receiver, courier() as made:
        assert await send(made, Lease(f"http://receiver.invalid:{receiver.port}/")) == {"status": 200}


async def test_a_receiver_that_nobody_is_cannot_be_reached() -> None:
    async with Receiver().listening() as receiver:
        port = receiver.port
    async with courier() as made:
        with pytest.raises(Undelivered, match="cannot be reached"):
            await send(made, Lease(f"http://receiver.invalid:{port}/"))


@pytest.mark.parametrize(("error", "outcome"), [(AddressRefused(), JobFailed), (Unresolved(), Undelivered)])
async def test_a_name_that_has_come_to_mean_something_else_is_not_gone_to(
    error: Exception, outcome: type[Exception]
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise error

    async with Receiver().listening() as receiver:
        made = Courier(lambda _: SECRET, resolve, SystemClock())
        with pytest.raises(outcome):
            await send(made, Lease(f"http://127.0.0.1:{receiver.port}/"))
        await made.close()
    assert receiver.requests == []


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """One for receiver.invalid, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ("-subj", "/CN=receiver.invalid", "-addext", "subjectAltName=DNS:receiver.invalid")
    files = ("-keyout", str(key), "-out", str(certificate))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, to make a certificate")
@pytest.mark.parametrize(("name", "known"), [("receiver.invalid", True), ("other.invalid", False)])
async def test_the_certificate_must_be_the_names(
    name: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with Receiver().listening(context) as receiver, courier() as made:
        lease = Lease(f"https://{name}:{receiver.port}/")
        if known:
            assert await send(made, lease) == {"status": 204}
        else:
            with pytest.raises(Undelivered, match="certificate"):
                await send(made, lease)
            assert receiver.requests == []
