"""`/v1/batches` on the wire, in each of the eight states."""

from typing import Any

import httpx
import pytest
from msgspec.json import encode

from pileus.batch.records import (
    KIND,
    BatchCheckpoint,
    BatchResult,
    Counts,
    LineProblem,
    Phase,
    ResultFile,
    TokenSums,
    decode_spec,
)
from pileus.core.records import Lane
from pileus.store.file_table import find_file
from pileus.store.job_table import Job
from unit.api.bench import Bench

CHAT = "/v1/chat/completions"
PROGRESS = BatchCheckpoint(
    phase=Phase.IN_PROGRESS, in_progress_at=1000.5, model="clouds", counts=Counts(3, 1, 1), usage=TokenSums(5, 2, 3)
)
OUTPUT, ERRORS = ResultFile("batches/1/output", 100, "aa"), ResultFile("batches/1/errors", 50, "bb")


async def stored(client: httpx.AsyncClient, purpose: str = "batch") -> str:
    answer = await client.post("/v1/files", files={"file": ("in.jsonl", b"{}")}, data={"purpose": purpose})
    return str(answer.json()["id"])


async def ask(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    wish = {"endpoint": CHAT, "completion_window": "24h", **changes}
    if "input_file_id" not in wish:
        wish["input_file_id"] = await stored(client)
    return await client.post("/v1/batches", json=wish)


class Driven:
    """A batch whose worker is the test."""

    def __init__(self, bench: Bench, client: httpx.AsyncClient, made: dict[str, Any]) -> None:
        self.id = made["id"]
        self.jobs = bench.services.jobs
        self._client = client
        self.job: Job

    async def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._client.get(f"/v1/batches/{self.id}")).json()
        return found

    async def lease(self) -> None:
        [self.job] = await self.jobs.lease(KIND, 1)

    async def checkpoint(self, state: BatchCheckpoint) -> None:
        await self.jobs.checkpoint(self.id, self.job.fence, encode(state), state.phase, 0, 0)

    async def finish(self, counts: Counts, output: ResultFile | None = None, errors: ResultFile | None = None) -> None:
        result = BatchResult(output=output, errors=errors, counts=counts, usage=TokenSums(5, 2, 3))
        await self.jobs.finish(self.id, self.job.fence, encode(result))


@pytest.fixture
async def driven(bench: Bench, client: httpx.AsyncClient) -> Driven:
    return Driven(bench, client, (await ask(client)).json())


async def test_a_new_batch_has_openais_form(client: httpx.AsyncClient, bench: Bench) -> None:
    file_id, now = await stored(client), int(bench.clock.wall())
    made = (await ask(client, input_file_id=file_id, metadata={"a": "b"}, completion_window="90m")).json()
    assert made == {
        "id": made["id"],
        "object": "batch",
        "endpoint": CHAT,
        "model": None,
        "errors": None,
        "input_file_id": file_id,
        "completion_window": "90m",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": None,
        "expires_at": now + 5400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        "metadata": {"a": "b"},
    }
    assert made["id"].startswith("batch_")
    assert (await client.get(f"/v1/batches/{made['id']}")).json() == made
    job = await bench.services.jobs.get(made["id"], None)
    assert job.blobs == (decode_spec(job.spec).blob,)


async def test_a_batch_in_progress_and_finalizing_tells_how_far_it_is(driven: Driven) -> None:
    await driven.lease()
    assert (await driven.seen())["status"] == "validating"
    await driven.checkpoint(PROGRESS)
    seen = await driven.seen()
    assert (seen["status"], seen["in_progress_at"], seen["model"]) == ("in_progress", 1000, "clouds")
    assert seen["request_counts"] == {"total": 3, "completed": 1, "failed": 1}
    assert (seen["usage"]["total_tokens"], seen["usage"]["input_tokens_details"]["cached_tokens"]) == (8, 2)
    await driven.checkpoint(BatchCheckpoint(phase=Phase.FINALIZING, finalizing_at=2000.0))
    seen = await driven.seen()
    assert (seen["status"], seen["finalizing_at"]) == ("finalizing", 2000)


async def test_a_completed_batch_leaves_its_files(driven: Driven, bench: Bench, client: httpx.AsyncClient) -> None:
    await driven.lease()
    await driven.finish(Counts(3, 2, 1), OUTPUT, ERRORS)
    seen = await driven.seen()
    assert (seen["status"], seen["completed_at"]) == ("completed", int(bench.clock.wall()))
    output = (await client.get(f"/v1/files/{seen['output_file_id']}")).json()
    assert (output["purpose"], output["bytes"], output["expires_at"]) == ("batch_output", 100, None)
    assert output["filename"] == f"{driven.id}_output.jsonl"
    errors = (await client.get(f"/v1/files/{seen['error_file_id']}")).json()
    assert (errors["bytes"], errors["filename"]) == (50, f"{driven.id}_errors.jsonl")
    file = await bench.store.read(lambda tx: find_file(tx, "default", seen["output_file_id"], bench.clock.wall()))
    assert file is not None
    assert (file.blob, file.sha256) == (OUTPUT.blob, OUTPUT.sha256)


async def test_files_stay_as_long_as_was_asked(bench: Bench, client: httpx.AsyncClient) -> None:
    made = (await ask(client, output_expires_after={"anchor": "created_at", "seconds": 3600})).json()
    driven = Driven(bench, client, made)
    await driven.lease()
    await driven.finish(Counts(1, 1, 0), OUTPUT)
    seen = await driven.seen()
    assert seen["error_file_id"] is None
    file = (await client.get(f"/v1/files/{seen['output_file_id']}")).json()
    assert file["expires_at"] == file["created_at"] + 3600


async def test_a_failed_batch_tells_what_is_wrong_with_its_input(driven: Driven, bench: Bench) -> None:
    await driven.lease()
    await driven.checkpoint(BatchCheckpoint(problems=(LineProblem("invalid_request", "no", 7, "body.n"),)))
    await driven.jobs.fail(driven.id, driven.job.fence, "invalid_batch", "no", retry=False)
    seen = await driven.seen()
    assert (seen["status"], seen["failed_at"]) == ("failed", int(bench.clock.wall()))
    problem = {"code": "invalid_request", "line": 7, "message": "no", "param": "body.n"}
    assert seen["errors"] == {"object": "list", "data": [problem]}


async def test_a_batch_that_failed_for_another_reason_tells_it(driven: Driven) -> None:
    await driven.lease()
    await driven.jobs.fail(driven.id, driven.job.fence, "results_corrupt", "the disk lied", retry=False)
    problem = {"code": "results_corrupt", "line": None, "message": "the disk lied", "param": None}
    assert (await driven.seen())["errors"] == {"object": "list", "data": [problem]}


async def test_a_batch_is_cancelling_until_its_worker_has_closed_it(
    driven: Driven, bench: Bench, client: httpx.AsyncClient
) -> None:
    await driven.lease()
    await driven.checkpoint(PROGRESS)
    answer = await client.post(f"/v1/batches/{driven.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelling")
    again = await client.post(f"/v1/batches/{driven.id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelling")
    await driven.finish(Counts(3, 1, 0), OUTPUT)
    seen = await driven.seen()
    assert (seen["status"], seen["cancelled_at"]) == ("cancelled", int(bench.clock.wall()))
    assert seen["output_file_id"] is not None
    assert (await client.post(f"/v1/batches/{driven.id}/cancel")).status_code == 409


async def test_an_expired_batch_says_when(driven: Driven, bench: Bench) -> None:
    bench.clock.advance(86_401.0)
    await driven.jobs.tick()
    await driven.lease()
    assert (await driven.seen())["status"] == "validating"
    await driven.finish(Counts(3, 0, 3), None, ERRORS)
    seen = await driven.seen()
    assert (seen["status"], seen["expired_at"]) == ("expired", int(bench.clock.wall()))


async def test_a_list_has_pages_the_latest_first(client: httpx.AsyncClient) -> None:
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert (await client.get("/v1/batches")).json() == empty
    made = [(await ask(client)).json()["id"] for _ in range(3)]
    page = (await client.get("/v1/batches?limit=2")).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    assert (page["first_id"], page["last_id"]) == (made[2], made[1])
    rest = (await client.get(f"/v1/batches?limit=2&after={made[1]}")).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == ([made[0]], False)
    assert (await client.get("/v1/batches?after=batch_nobodys")).status_code == 404


async def test_another_tenants_batch_and_file_are_not_there(bench: Bench, client: httpx.AsyncClient) -> None:
    made = (await ask(client)).json()
    _, secret = await bench.services.keys.create("stranger", "user", tenant="elsewhere")
    client.headers["authorization"] = f"Bearer {secret}"
    assert (await client.get(f"/v1/batches/{made['id']}")).status_code == 404
    assert (await client.post(f"/v1/batches/{made['id']}/cancel")).status_code == 404
    assert (await client.get("/v1/batches")).json()["data"] == []
    refused = await ask(client, input_file_id=made["input_file_id"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_file_id")


async def test_another_kind_of_job_is_no_batch(bench: Bench, client: httpx.AsyncClient) -> None:
    entry = bench.services.ring.get(bench.user_id)
    assert entry is not None
    job = await bench.services.jobs.submit("count", entry.principal, b"{}")
    assert (await client.get(f"/v1/batches/{job.id}")).status_code == 404
    assert (await client.post(f"/v1/batches/{job.id}/cancel")).status_code == 404


async def test_a_key_without_the_batch_lane_may_have_none(bench: Bench, client: httpx.AsyncClient) -> None:
    _, secret = await bench.services.keys.create("urgent", "user", lanes=(Lane.ON_DEMAND,))
    client.headers["authorization"] = f"Bearer {secret}"
    refused = await ask(client)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "lane")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"completion_window": "25h"}, "completion_window"),
        ({"completion_window": "0s"}, "completion_window"),
        ({"completion_window": "-1h"}, "completion_window"),
        ({"completion_window": "1.5h"}, "completion_window"),
        ({"endpoint": "/v1/classify"}, "endpoint"),
        ({"input_file_id": "file-nobodys"}, "input_file_id"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3599}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "last_active_at", "seconds": 3600}}, "output_expires_after.anchor"),
        ({"window": "24h"}, "window"),
    ],
)
async def test_what_is_not_possible_is_refused_by_its_name(
    client: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    refused = await ask(client, **change)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_a_file_for_another_purpose_is_no_input(client: httpx.AsyncClient) -> None:
    refused = await ask(client, input_file_id=await stored(client, "user_data"))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_file_id")
