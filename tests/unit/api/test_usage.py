"""`GET /admin/v1/usage`, and that the simulator reads what it tells."""

import json
from pathlib import Path

import httpx
import pytest

from pileus.core.records import Lane, UsageRecord
from pileus.simulation.traces import read
from unit.api.bench import Bench

URL = "/admin/v1/usage"


def usage_rows(count: int) -> list[UsageRecord]:
    """Of one request after the other."""
    return [
        UsageRecord(
            request_id=f"req_{number}",
            key_id="key_1",
            tenant="t",
            deployment="clouds",
            lane=Lane.BATCH if number % 2 else Lane.ON_DEMAND,
            outcome="stop",
            at=1000.0 + number,
            prompt_tokens=10 + number,
            cached_tokens=0,
            completion_tokens=5,
            cost_micros=0,
            queue_s=0.0,
            prefill_s=0.1,
            decode_s=0.2,
            total_s=0.3,
        )
        for number in range(count)
    ]


async def written(bench: Bench, count: int) -> None:
    for row in usage_rows(count):
        bench.services.usage.append(row)
    flushed = bench.services.usage.flush()
    assert flushed is not None
    flushed.result(10)


async def test_requests_are_told_page_by_page_oldest_first(bench: Bench, client: httpx.AsyncClient) -> None:
    await written(bench, 5)
    seen, after = [], 0
    while page := (await client.get(f"{URL}?limit=2&after={after}", headers=bench.bearer("admin"))).json()["data"]:
        seen += page
        after = page[-1]["sequence"]
    assert [entry["request_id"] for entry in seen] == [row.request_id for row in usage_rows(5)]
    assert {entry["lane"] for entry in seen} <= set(Lane)


async def test_only_who_may_read_the_audit_may_read_it(bench: Bench, client: httpx.AsyncClient) -> None:
    assert (await client.get(URL, headers=bench.bearer("user"))).status_code == 403


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=10001"])
async def test_what_is_no_number_in_bounds_is_refused(bench: Bench, client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"{URL}?{query}", headers=bench.bearer("admin"))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_the_simulator_reads_it(bench: Bench, client: httpx.AsyncClient, tmp_path: Path) -> None:
    await written(bench, 3)
    page = (await client.get(URL, headers=bench.bearer("admin"))).json()["data"]
    trace = tmp_path / "usage.jsonl"
    trace.write_text("".join(json.dumps(entry) + "\n" for entry in page))
    assert [request.prompt_tokens for request in read(trace)] == [row.prompt_tokens for row in usage_rows(3)]
