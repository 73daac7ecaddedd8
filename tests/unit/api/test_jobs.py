"""`/v1/jobs`: what people see of jobs, and what each of them may ask."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from pileus.core.records import Principal
from pileus.jobs.metrics import METRICS_FILE, MetricsWriter
from pileus.jobs.service import Progress
from pileus.store.job_table import Job
from unit.api.bench import JOB_KIND, Bench

SECRET = b'{"prompt": "the diary of a cloud"}'


@dataclass
class People:
    """Three keys of one tenant, and one of another's."""

    admin: httpx.AsyncClient
    operator: httpx.AsyncClient
    user: httpx.AsyncClient
    stranger: httpx.AsyncClient


@pytest.fixture
async def people(bench: Bench) -> AsyncIterator[People]:
    async with AsyncExitStack() as stack:

        async def client(name: str, role: str, tenant: str = "default") -> httpx.AsyncClient:
            _, secret = await bench.services.keys.create(name, role, tenant=tenant)
            made = httpx.AsyncClient(
                transport=httpx.ASGITransport(bench.app),
                base_url="http://pileus",
                headers={"authorization": f"Bearer {secret}"},
            )
            return await stack.enter_async_context(made)

        yield People(
            await client("root", "admin"),
            await client("watch", "operator"),
            await client("desk", "user"),
            await client("stranger", "user", "rain"),
        )


async def submitted(bench: Bench, tenant: str = "default", **options: Any) -> Job:
    by = Principal("key_1", tenant, "user", frozenset(), max_priority=10)
    return await bench.services.jobs.submit(JOB_KIND, by, SECRET, **options)


async def failed(bench: Bench) -> Job:
    job = await submitted(bench)
    [leased] = await bench.services.jobs.lease(JOB_KIND, 1)
    await bench.services.jobs.fail(job.id, leased.fence, "no_file", "the file is gone", retry=False)
    return job


def ids(answer: httpx.Response) -> list[str]:
    return [job["id"] for job in answer.json()["data"]]


async def test_a_job_is_told_without_what_it_is_about(bench: Bench, people: People) -> None:
    job = await submitted(bench, priority=5, due_at=bench.clock.wall() + 60)
    answer = await people.user.get(f"/v1/jobs/{job.id}")
    assert answer.json() == {
        "id": job.id,
        "kind": JOB_KIND,
        "tenant": "default",
        "state": "queued",
        "wish": "",
        "acts": ["pause", "cancel"],
        "priority": 5,
        "needs": [],
        "stage": "",
        "done": 0,
        "total": 0,
        "failures": 0,
        "error": None,
        "created_at": bench.clock.wall(),
        "started_at": None,
        "finished_at": None,
        "due_at": bench.clock.wall() + 60,
        "ready_at": 0.0,
        "sequence": 1,
    }
    [leased] = await bench.services.jobs.lease(JOB_KIND, 1)
    await bench.services.jobs.checkpoint(job.id, leased.fence, b"secret place", "counting", 3, 4)
    await bench.services.jobs.finish(job.id, leased.fence, b'{"secret": "result"}')
    for path in ("/v1/jobs", f"/v1/jobs/{job.id}"):
        told = (await people.admin.get(path)).text
        assert "secret" not in told
        assert "diary" not in told


async def test_progress_is_told_as_a_fraction_where_the_total_is_known(bench: Bench, people: People) -> None:
    job = await submitted(bench)
    [leased] = await bench.services.jobs.lease(JOB_KIND, 1)
    path, jobs = f"/v1/jobs/{job.id}", bench.services.jobs
    jobs.progress(job.id, Progress(leased.fence, "reading", 7, 0))
    told = (await people.user.get(path)).json()
    assert (told["state"], told["stage"], told["done"], told["total"]) == ("running", "reading", 7, 0)
    assert "fraction" not in told
    jobs.progress(job.id, Progress(leased.fence, "counting", 3, 4))
    assert (await people.user.get(path)).json()["fraction"] == 0.75
    jobs.progress(job.id, Progress(leased.fence, "counting", 5, 4))
    assert (await people.user.get(path)).json()["fraction"] == 1.0


async def test_the_latest_come_first_page_by_page(bench: Bench, people: People) -> None:
    made = [(await submitted(bench)).id for _ in range(5)]
    first = (await people.user.get("/v1/jobs?limit=2")).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (made[:2:-1], True)
    rest = (await people.user.get(f"/v1/jobs?limit=3&before={first['data'][-1]['sequence']}")).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (made[2::-1], False)


async def test_jobs_are_picked_by_kind_and_by_state(bench: Bench, people: People) -> None:
    broken, waiting = await failed(bench), await submitted(bench)
    assert ids(await people.user.get("/v1/jobs?state=failed")) == [broken.id]
    assert ids(await people.user.get(f"/v1/jobs?kind={JOB_KIND}")) == [waiting.id, broken.id]
    assert ids(await people.user.get("/v1/jobs?kind=none")) == []
    refused = await people.user.get("/v1/jobs?state=lazy")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "state")
    assert "waiting, queued, running" in refused.json()["error"]["message"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "before=-1", "before=later", "tenant=rain"])
async def test_a_query_that_means_nothing_is_refused(people: People, query: str) -> None:
    refused = await people.user.get(f"/v1/jobs?{query}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, query.partition("=")[0])


async def test_another_tenants_jobs_are_not_there(bench: Bench, people: People) -> None:
    job = await submitted(bench)
    assert ids(await people.stranger.get("/v1/jobs")) == []
    unknown = await people.stranger.get("/v1/jobs/job_none")
    for path in (f"/v1/jobs/{job.id}", f"/v1/jobs/{job.id}/logs"):
        hidden = await people.stranger.get(path)
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.json()["error"]["message"].replace(job.id, "job_none") == unknown.json()["error"]["message"]
    for act in ("pause", "resume", "cancel"):
        assert (await people.stranger.post(f"/v1/jobs/{job.id}/{act}")).status_code == 404
    assert (await bench.services.jobs.get(job.id, None)).state == "queued"


async def test_who_watches_sees_all_and_only_administrators_act_on_another_tenants(
    bench: Bench, people: People
) -> None:
    own, foreign = await submitted(bench), await submitted(bench, "rain")
    assert ids(await people.operator.get("/v1/jobs")) == [foreign.id, own.id]
    assert (await people.operator.get(f"/v1/jobs/{foreign.id}")).json()["acts"] == []
    assert (await people.operator.get(f"/v1/jobs/{foreign.id}/logs")).status_code == 200
    refused = await people.operator.post(f"/v1/jobs/{foreign.id}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert (await people.operator.post(f"/v1/jobs/{own.id}/cancel")).json()["state"] == "cancelled"
    assert (await people.admin.post(f"/v1/jobs/{foreign.id}/cancel")).json()["state"] == "cancelled"


async def test_a_job_is_paused_resumed_and_cancelled(bench: Bench, people: People) -> None:
    job = await submitted(bench)
    paused = (await people.user.post(f"/v1/jobs/{job.id}/pause")).json()
    assert (paused["state"], paused["acts"]) == ("paused", ["resume", "cancel"])
    assert (await people.user.post(f"/v1/jobs/{job.id}/resume")).json()["state"] == "queued"
    [leased] = await bench.services.jobs.lease(JOB_KIND, 1)
    asked = (await people.user.post(f"/v1/jobs/{job.id}/cancel")).json()
    assert (asked["state"], asked["wish"], asked["acts"]) == ("running", "cancel", [])
    await bench.services.jobs.finish(job.id, leased.fence, b"{}")
    ended = (await people.user.get(f"/v1/jobs/{job.id}")).json()
    assert (ended["state"], ended["wish"], ended["acts"]) == ("cancelled", "", [])


async def test_what_a_job_has_failed_of_is_told_and_it_can_be_tried_again(bench: Bench, people: People) -> None:
    job = await failed(bench)
    told = (await people.user.get(f"/v1/jobs/{job.id}")).json()
    assert (told["error"], told["failures"]) == ({"code": "no_file", "message": "the file is gone"}, 1)
    assert (told["state"], told["acts"]) == ("failed", ["resume"])
    again = (await people.user.post(f"/v1/jobs/{job.id}/resume")).json()
    assert (again["state"], again["error"], again["failures"]) == ("queued", None, 0)


async def test_what_its_state_does_not_allow_is_a_conflict(bench: Bench, people: People) -> None:
    job = await submitted(bench)
    await people.user.post(f"/v1/jobs/{job.id}/cancel")
    for act in ("pause", "resume", "cancel"):
        refused = await people.user.post(f"/v1/jobs/{job.id}/{act}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_state")
        assert "it is cancelled" in refused.json()["error"]["message"]


async def test_the_log_gives_its_end_or_goes_on_after_a_line(bench: Bench, people: People) -> None:
    job, other = await submitted(bench), await submitted(bench)
    for number in range(5):
        bench.services.jobs.tell(job.id, "info", f"line {number}")
    bench.services.jobs.tell(other.id, "info", "not mine")
    await bench.services.jobs.write_lines()
    path = f"/v1/jobs/{job.id}/logs"
    last = (await people.user.get(f"{path}?limit=2")).json()["data"]
    assert [line["text"] for line in last] == ["line 3", "line 4"]
    assert (last[0]["at"], last[0]["level"]) == (bench.clock.wall(), "info")
    first = (await people.user.get(f"{path}?after=0&limit=3")).json()["data"]
    assert [line["text"] for line in first] == ["line 0", "line 1", "line 2"]
    rest = (await people.user.get(f"{path}?after={first[-1]['sequence']}")).json()["data"]
    assert [line["text"] for line in rest] == ["line 3", "line 4"]
    assert (await people.user.get(f"{path}?after={rest[-1]['sequence']}")).json()["data"] == []


async def test_acts_are_on_record(bench: Bench, people: People) -> None:
    job = await submitted(bench)
    await people.user.post(f"/v1/jobs/{job.id}/pause")
    [entry] = (await people.admin.get("/admin/v1/audit?action=job.pause")).json()["data"]
    assert (entry["target"], entry["outcome"]) == (job.id, "ok")


async def test_a_job_that_people_submit_is_on_record(people: People) -> None:
    wish = {"kind": JOB_KIND, "spec": {"up_to": 3}, "priority": -1}
    made = (await people.admin.post("/v1/jobs", json=wish)).json()
    assert (made["kind"], made["state"], made["priority"]) == (JOB_KIND, "queued", -1)
    assert ids(await people.admin.get("/v1/jobs")) == [made["id"]]


@pytest.mark.parametrize(
    ("wish", "param", "words"),
    [
        ({"kind": "sleep", "spec": {}}, "kind", "should be one of attention, "),
        ({"kind": "batch", "spec": {}}, "kind", "should be one of attention, "),  # another part of Pileus submits those
        ({"kind": JOB_KIND, "spec": {"up_to": "x"}}, "spec", "Expected `int`, got `str` - at `$.up_to`"),
        ({"kind": JOB_KIND, "spec": {"up_to": 3, "by": 2}}, "spec", "unknown field `by`"),
        ({"kind": JOB_KIND, "spec": {"up_to": 3}, "needs": ["job_none"]}, "needs", "job_none"),
        (
            {"kind": "train", "spec": {"recipe": "gpt", "data": ["a.txt"], "base": "b", "width": 64, "layers": 2}},
            "spec",
            "`layers`, `width` should be left out: what begins from a `base` has that one's",
        ),
        (
            {"kind": "train", "spec": {"recipe": "bert", "data": ["a.txt"], "width": 255}},
            "spec",
            "`width` should be a multiple of heads",
        ),
    ],
)
async def test_a_job_that_cannot_be_is_refused_by_its_field(
    people: People, wish: dict[str, Any], param: str, words: str
) -> None:
    refused = await people.admin.post("/v1/jobs", json=wish)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param)
    assert words in error["message"]


async def test_only_who_manages_models_submits_jobs(people: People) -> None:
    refused = await people.user.post("/v1/jobs", json={"kind": JOB_KIND, "spec": {"up_to": 3}})
    assert refused.status_code == 403


async def test_the_figures_of_a_job_are_those_of_its_folder(bench: Bench, people: People) -> None:
    job = await submitted(bench)
    assert (await people.user.get(f"/v1/jobs/{job.id}/metrics")).json() == {"data": []}
    folder = bench.services.jobs.folder(job.id)
    folder.mkdir(parents=True)
    writer = MetricsWriter(folder / METRICS_FILE)
    for step in range(4):
        writer.add(step, {"loss": 1.0 / (step + 1)})
    told = (await people.user.get(f"/v1/jobs/{job.id}/metrics?limit=2")).json()["data"]
    assert [(point["step"], point["values"]["loss"]) for point in told] == [(1, 0.5), (3, 0.25)]
    assert (await people.stranger.get(f"/v1/jobs/{job.id}/metrics")).status_code == 404
