"""FAULTS 18 to 21 as clients meet them: what cannot be written down is refused with a time to come back, what can be
read is read, and nothing happens that is not on record."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from acceptance.process import Server, greeting, running_server, started
from faults.power import environment, order
from faults.test_store_faults import fill, longest_pause_s
from pileus.store.sqlite import BUSY_S, DATABASE_FILE
from unit.api.bench import Bench, edge_bench

KEYS = "/admin/v1/keys"
FAKE = '[[deployment]]\nname = "x"\nmodel = "fake"\nengine = "fake"\n'
Measured = Callable[[str], None]


@pytest.fixture
async def bench(small_disk: Path) -> AsyncIterator[Bench]:
    async with edge_bench(small_disk / "data") as found:
        yield found


@pytest.fixture
async def admin(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=bench.bearer("admin")) as found:
        yield found


def refused(response: httpx.Response) -> bool:
    assert response.status_code == 201 or int(response.headers["retry-after"]) > 0
    return response.status_code == 503


async def names(admin: httpx.AsyncClient) -> set[str]:
    return {key["name"] for key in (await admin.get(KEYS)).json()["data"]}


async def until_refused(admin: httpx.AsyncClient) -> set[str]:
    """Make keys until the last free page is written; the names of those that were made."""
    made = set()
    for n in range(1000):
        if refused(await admin.post(KEYS, json={"name": f"{n} {'x' * 100}", "role": "user"})):
            return made
        made.add(f"{n} {'x' * 100}")
    raise AssertionError("the disk is not full")


@pytest.mark.fault(
    18, "tmpfs of 1 MiB, full, over HTTP", "writes get 503 and Retry-After, reads 200; recovers by itself"
)
async def test_18_over_http_writes_are_refused_reads_answered_and_it_recovers(
    small_disk: Path, bench: Bench, admin: httpx.AsyncClient
) -> None:
    ballast = fill(small_disk)
    made = await until_refused(admin)
    assert await names(admin) == {"boss", "laptop", *made}
    assert (await admin.get("/admin/v1/audit")).status_code == 200
    assert (await admin.get("/v1/models")).status_code == 200
    ballast.unlink()
    assert not refused(await admin.post(KEYS, json={"name": "after", "role": "user"}))
    assert "after" in await names(admin)


@pytest.mark.fault(19, "tmpfs of 1 MiB, full, under the audit", "an act that cannot be recorded does not happen; alarm")
async def test_19_what_cannot_be_recorded_does_not_happen_and_is_told(
    small_disk: Path, bench: Bench, admin: httpx.AsyncClient, measured: Measured
) -> None:
    ballast = fill(small_disk)
    await until_refused(admin)
    with capture_logs() as logs:
        assert refused(await admin.delete(f"{KEYS}/{bench.user_id}"))
        assert (await admin.get("/admin/v1/backup")).status_code == 503
    assert [key["revoked_at"] for key in (await admin.get(KEYS)).json()["data"] if key["id"] == bench.user_id] == [None]
    alarms = [event for event in logs if event["event"] == "store.write_failed" and event["log_level"] == "error"]
    assert len(alarms) == 2
    assert "full" in alarms[0]["reason"]
    metrics = (await admin.get("/metrics")).text
    assert 'reason="unavailable"' in metrics
    # What is refused meanwhile waits, and is on record once there is room.
    nobody = await admin.get(KEYS, headers={"authorization": "Bearer sk-pileus-nobody"})
    assert nobody.status_code == 401
    written = bench.services.audit.flush()
    assert written is not None
    assert await asyncio.to_thread(written.exception)
    ballast.unlink()
    written = bench.services.audit.flush()
    assert written is not None
    await asyncio.wrap_future(written)
    actions = [event.action for _, event in await bench.services.audit.latest(100)]
    assert "request.refuse" in actions
    assert "key.revoke" not in actions
    measured("logged as an error, counted in /metrics; refusals kept until there is room")


@pytest.mark.fault(21, "a held transaction, over HTTP", "a bounded wait, then 503; other requests go on")
async def test_21_over_http_a_locked_store_is_waited_for_and_then_refused(tmp_path: Path, measured: Measured) -> None:
    async with edge_bench(tmp_path) as bench:
        transport = httpx.ASGITransport(bench.app)
        headers = bench.bearer("admin")
        async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=headers) as admin:
            with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as intruder:
                intruder.execute("BEGIN IMMEDIATE")
                begun_s = time.monotonic()
                act: asyncio.Future[Any] = asyncio.ensure_future(admin.post(KEYS, json={"name": "a", "role": "user"}))
                pausing = asyncio.create_task(longest_pause_s(act))
                answered = 0
                while not act.done():
                    assert (await admin.get(KEYS)).status_code == 200
                    answered += 1
                    await asyncio.sleep(0.001)  # a request that finds all it needs in memory never waits
                took_s, pause_s = time.monotonic() - begun_s, await pausing
                assert refused(act.result())
            measured(
                f"503 after {took_s:.2f} s; {answered} other answers; event loop away {pause_s * 1e3:.0f} ms at most"
            )
            assert took_s >= BUSY_S
            assert pause_s < BUSY_S / 2
            assert answered > 10
            assert not refused(await admin.post(KEYS, json={"name": "b", "role": "user"}))
            assert "a" not in await names(admin)


def create_key(server: Server, admin_key: str, name: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {admin_key}"}
    wish = {"name": name, "role": "user"}
    return httpx.post(f"{server.base_url}{KEYS}", headers=headers, json=wish, trust_env=False)


@pytest.mark.fault(20, "failed syncs under a real server, then SIGKILL", "503, then on; what was acknowledged is there")
def test_20_a_server_on_a_failing_disk_refuses_goes_on_and_loses_nothing(
    tmp_path: Path, shim: Path, measured: Measured
) -> None:
    data, config, control, log = (tmp_path / name for name in ("data", "pileus.toml", "control", "server.log"))
    config.write_text(FAKE)
    order(control)
    watched = environment(shim, data, POWERCUT_CONTROL=str(control))
    variables = {name: watched[name] for name in ("LD_PRELOAD", "POWERCUT_FOLDER", "POWERCUT_CONTROL")}
    acknowledged, statuses = set(), []
    with ExitStack() as stack:
        stderr = stack.enter_context(log.open("w"))
        process = stack.enter_context(started(data, "--config", str(config), stderr=stderr, **variables))
        server = Server(process, data, greeting(process, log))
        key = server.admin_key
        for n in range(12):
            if n == 4:
                order(control, "s", times=2, error=5, path=f"{DATABASE_FILE}-wal")
            response = create_key(server, key, str(n))
            statuses.append(response.status_code)
            if not refused(response):
                acknowledged.add(response.json()["secret"])
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    measured(f"answers {statuses}")
    assert statuses.count(503) in (1, 2)  # the usage of no request is written meanwhile, but audit rows may be
    assert statuses[-4:] == [201] * 4
    with running_server(data, "--config", str(config)) as again:
        for secret in acknowledged:
            headers = {"authorization": f"Bearer {secret}"}
            assert httpx.get(f"{again.base_url}/v1/models", headers=headers, trust_env=False).status_code == 200
