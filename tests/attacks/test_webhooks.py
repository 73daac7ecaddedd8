"""THREATS 26 and 27: whoever can name a URL would have this server look around where only it can."""

import asyncio
from collections.abc import Awaitable, Callable
from socket import AF_INET, SOCK_STREAM
from typing import Any, cast

import pytest
from msgspec.json import encode

from attacks.target import Target
from pileus.core.clock import SystemClock
from pileus.jobs.handler import JobFailed
from pileus.store.job_table import Job, Wish
from pileus.webhooks.addresses import read_url, resolve_public
from pileus.webhooks.delivery import Courier, DeliverySpec, Undelivered
from pileus.webhooks.events import Event, Subject

PATH = "/v1/webhooks"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0.0.0.0/",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST:8000/admin/v1/keys",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.1.:80/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://10.0.0.1/",
        "http://192.168.0.1/",
        "http://8.8.8.8@127.0.0.1/",
        "http://8.8.8.8\\@127.0.0.1/",
        "http://127.0.0.1#@8.8.8.8/",
        "http://127.0.0.1\t/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "//127.0.0.1/",
        "http://",
    ],
)
def test_26_an_address_inside_is_refused_however_it_is_written(target: Target, url: str) -> None:
    with target.http(target.server.admin_key) as admin:
        answer = admin.post(PATH, json={"url": url})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "url"
        assert admin.get(PATH).json()["data"] == []


def test_who_is_no_administrator_names_no_url(target: Target) -> None:
    with target.http() as client:
        assert client.post(PATH, json={"url": "https://8.8.8.8/"}).status_code == 403


class Lease:
    """As much of a lease as a delivery looks at."""

    def __init__(self, url: str) -> None:
        event = Event(id="evt_1", created_at=5, type="batch.completed", data=Subject("batch_1"))
        spec = encode(DeliverySpec("wh_1", url, event))
        self.wish = Wish.NONE
        self.job = Job(id="job_1", kind="webhook", tenant="acme", key_id="key_1", spec=spec, created_at=0.0)

    def log(self, text: str, level: str = "info") -> None:
        """Nobody reads it."""


Look = Callable[..., Awaitable[list[Any]]]


def rebinding(*answers: str) -> tuple[Look, list[str]]:
    """A name server that says something else each time, and what it was asked."""
    script, asked = list(answers), list[str]()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [(AF_INET, SOCK_STREAM, 6, "", (script.pop(0), port))]

    return getaddrinfo, asked


@pytest.mark.parametrize("inside", [1, 2])
async def test_27_a_name_that_turns_inwards_after_it_was_checked_leads_nowhere(
    inside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turns before the delivery, or between the delivery's check and its connection."""
    reached: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(1))
        writer.close()

    # An address that is public by its number, and where nobody is reached from here.
    getaddrinfo, asked = rebinding(*["192.0.1.1"] * inside, *["127.0.0.1"] * 5)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        url = f"http://attacker.example:{server.sockets[0].getsockname()[1]}/"
        read = read_url(url)
        await resolve_public(read.host, read.port or 80)  # as it was added
        courier = Courier(lambda _: b"s" * 32, resolve_public, SystemClock(), limit_s=0.5)
        with pytest.raises(JobFailed if inside == 1 else Undelivered):
            await courier(cast(Any, Lease(url)))
        await courier.close()
    assert reached == []
    assert asked == ["attacker.example"] * 2  # the connection asked nobody again
