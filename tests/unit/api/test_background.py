"""`/v1/background`: what is promised, and what becomes of it."""

from typing import Any

import httpx
import pytest
from msgspec import Raw
from msgspec.json import decode, encode

from pileus.background.records import BackgroundSpec, Refusal
from pileus.core.errors import NotFound
from pileus.core.records import Lane
from pileus.store.blobs import read_whole
from pileus.store.job_table import Job
from pileus.store.local_blobs import LocalBlobs
from unit.api.bench import Bench

CHAT = "/v1/chat/completions"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def question(**wishes: Any) -> dict[str, Any]:
    return {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]} | wishes


async def promised(client: httpx.AsyncClient) -> str:
    told = (await client.post(CHAT, json=question(background=True))).json()
    return str(told["id"])


async def leased(bench: Bench) -> Job:
    [job] = await bench.services.jobs.lease("background", 1)
    return job


async def test_the_job_has_all_that_the_request_wanted(bench: Bench, client: httpx.AsyncClient) -> None:
    content = b'{"model":"clouds", "prompt":"hi", "background":true, "service_tier":"flex"}'
    headers = {
        "content-type": "application/json",
        "x-request-id": "req_1",
        "traceparent": TRACE,
        "x-pileus-priority": "-3",
        "x-pileus-deadline-ms": "5000",
    }
    answer = await client.post("/v1/completions", content=content, headers=headers)
    assert answer.status_code == 202
    job = await leased(bench)
    assert decode(job.spec, type=BackgroundSpec) == BackgroundSpec(
        endpoint="/v1/completions",
        body=Raw(content),
        model="clouds",
        request_id="req_1",
        traceparent=TRACE,
        lane=Lane.BATCH,
        priority=-3,
    )
    assert (job.id, job.kind, job.tenant, job.key_id) == (
        answer.json()["id"],
        "background",
        "default",
        bench.user_id,
    )
    assert job.due_at == pytest.approx(bench.clock.wall() + 5.0)
    assert job.priority == -3
    assert bench.pipeline.requests == []


async def test_without_a_deadline_it_has_the_settings_time(bench: Bench, client: httpx.AsyncClient) -> None:
    await promised(client)
    assert (await leased(bench)).due_at == pytest.approx(bench.clock.wall() + 3600)


async def test_what_is_asked_for_now_is_answered_now(bench: Bench, client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=question(background=False))
    assert answer.status_code == 200
    assert await bench.services.jobs.lease("background", 1) == []


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("respond-async", 202),
        ("Respond-Async", 202),
        ("respond-async;x=1, wait=10", 202),
        ("wait=10,  respond-async", 202),
        ("respond-asynchronously", 200),
        ("wait=10", 200),
        ("", 200),
    ],
)
async def test_a_preference_counts_by_its_name(client: httpx.AsyncClient, prefer: str, status: int) -> None:
    answer = await client.post(CHAT, json=question(), headers={"prefer": prefer})
    assert answer.status_code == status
    assert ("preference-applied" in answer.headers) == (status == 202)


async def test_a_stream_is_for_somebody_who_listens(bench: Bench, client: httpx.AsyncClient) -> None:
    for body, headers in (
        (question(stream=True, background=True), {}),
        (question(stream=True), {"prefer": "respond-async"}),
    ):
        answer = await client.post(CHAT, json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")
    assert await bench.services.jobs.lease("background", 1) == []


async def test_of_a_tenant_only_so_many_wait(bench: Bench, client: httpx.AsyncClient) -> None:
    limits = bench.services.settings.background.model_copy(update={"max_waiting": 2})
    bench.services.background._settings = limits
    first = await promised(client)
    await promised(client)
    refused = await client.post(CHAT, json=question(background=True))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    await client.post(f"/v1/background/{first}/cancel")
    await promised(client)


async def test_a_failure_is_told_as_the_endpoint_would_have(bench: Bench, client: httpx.AsyncClient) -> None:
    known, crashed = await promised(client), await promised(client)
    error = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "x"}
    job = await leased(bench)
    refusal = Refusal("x", Raw(encode({"error": error})))
    await bench.services.jobs.checkpoint(job.id, job.fence, encode(refusal), "", 0, 0)
    await bench.services.jobs.fail(job.id, job.fence, "x", "too long", retry=False)
    assert (await client.get(f"/v1/background/{known}")).json()["error"] == error
    job = await leased(bench)
    await bench.services.jobs.fail(job.id, job.fence, "crashed", "KeyError: 'a secret'", retry=False)
    told = (await client.get(f"/v1/background/{crashed}")).json()
    assert (told["status"], told["error"]["type"], told["error"]["code"]) == ("failed", "server_error", "server_error")
    assert "secret" not in told["error"]["message"]


async def test_a_job_of_another_kind_is_no_background_request(bench: Bench, client: httpx.AsyncClient) -> None:
    job = await bench.services.jobs.submit("webhook", bench.services.ring.holder(bench.user_id), b"{}")
    one = f"/v1/background/{job.id}"
    answers = [await client.get(one), await client.delete(one), await client.post(f"{one}/cancel")]
    assert [each.status_code for each in answers] == [404, 404, 404]


async def test_the_document_has_the_promise(admin: httpx.AsyncClient) -> None:
    paths = (await admin.get("/openapi.json")).json()["paths"]
    promise = paths[CHAT]["post"]["responses"]["202"]["content"]["application/json"]["schema"]
    assert promise == paths["/v1/background/{id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert list(paths["/v1/webhooks/{webhook_id}/test"]["post"]["responses"]) == ["202", "default"]


async def test_a_large_body_is_kept_as_a_content_for_as_long_as_it_is_needed(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    content = encode(question(background=True, messages=[{"role": "user", "content": "word " * 50_000}]))
    told = (await client.post(CHAT, content=content, headers={"content-type": "application/json"})).json()
    job = await leased(bench)
    spec = decode(job.spec, type=BackgroundSpec)
    assert (spec.body, job.blobs) == (Raw(b"null"), (spec.blob,))
    blobs = LocalBlobs(bench.services.settings.data_dir / "blobs")
    assert await read_whole(blobs, spec.blob) == content
    await bench.services.jobs.finish(job.id, job.fence, b"{}")
    assert (await client.delete(f"/v1/background/{told['id']}")).is_success
    with pytest.raises(NotFound):
        await read_whole(blobs, spec.blob)


async def test_a_list_loads_no_answers(bench: Bench, client: httpx.AsyncClient) -> None:
    await promised(client)
    job = await leased(bench)
    await bench.services.jobs.finish(job.id, job.fence, b'{"answer":1}')
    [listed] = await bench.services.jobs.latest("default", kind="background", results=False)
    assert listed.result == b""
    assert (await client.get("/v1/background")).json()["data"][0]["status"] == "completed"
    assert (await client.get(f"/v1/background/{job.id}")).json()["response"] == {"answer": 1}
