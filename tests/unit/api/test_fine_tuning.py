"""`/v1/fine_tuning/jobs` on the wire, in each of its states; the worker is the test."""

from typing import Any

import httpx
import pytest
from msgspec import Raw
from msgspec.json import encode
from sqlalchemy import select

from pileus.evaluation.records import Finding, GateResult
from pileus.models.registry import Made
from pileus.store import schema
from pileus.store.job_table import Job
from pileus.training.finetune.plan import plan_of
from pileus.training.finetune.records import (
    KIND,
    Checked,
    FineTuneCheckpoint,
    FineTuneResult,
    Kept,
    ResultFile,
    Ruling,
    Wishes,
)
from unit.api.bench import Bench

PATH = "/v1/fine_tuning/jobs"
CHECKED = Checked(examples=40, tokens=4000, longest=120, validation_examples=0, plan=plan_of(Wishes(), 40, 512))
FIGURES = {"train_loss": 0.5, "train_mean_token_accuracy": 0.75, "valid_loss": 0.625}


async def stored(client: httpx.AsyncClient, purpose: str = "fine-tune") -> str:
    answer = await client.post("/v1/files", files={"file": ("in.jsonl", b"{}")}, data={"purpose": purpose})
    return str(answer.json()["id"])


async def ask(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    wish = {"model": "default", **changes}
    if "training_file" not in wish:
        wish["training_file"] = await stored(client)
    return await client.post(PATH, json=wish)


class Driven:
    """A job whose worker is the test."""

    def __init__(self, bench: Bench, client: httpx.AsyncClient, made: dict[str, Any]) -> None:
        self.id = made["id"]
        self.jobs = bench.services.jobs
        self._client = client
        self.job: Job

    async def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._client.get(f"{PATH}/{self.id}")).json()
        return found

    async def lease(self) -> None:
        [self.job] = await self.jobs.lease(KIND, 1)

    async def checkpoint(self, done: int = 0, total: int = 0, **state: Any) -> None:
        body = encode(FineTuneCheckpoint(**state))
        await self.jobs.checkpoint(self.id, self.job.fence, body, "training", done, total)

    async def finish(self, kept: tuple[Kept, ...] = (), made: tuple[Made, ...] = ()) -> None:
        await self.jobs.finish(self.id, self.job.fence, encode(left(kept, made)))

    async def refuse(self, kept: tuple[Kept, ...], made: tuple[Made, ...], *rulings: Ruling) -> None:
        body = encode(left(kept, made, rulings))
        await self.jobs.fail(self.id, self.job.fence, "refused_by_gate", "it is refused", retry=False, result=body)


def left(kept: tuple[Kept, ...], made: tuple[Made, ...], rulings: tuple[Ruling, ...] = ()) -> FineTuneResult:
    content = ResultFile("file-000000000000000000000000", "files/file-000000000000000000000000", 9, "aa")
    return FineTuneResult(made=made, trained_tokens=8000, kept=kept, result=content, rulings=rulings)


def ruling(candidate: str, sha256: str, refusal: str) -> Ruling:
    found = Finding(check="loss", passed=not refusal, says=refusal or "it is as good", figures={"items": 3.0})
    verdict = GateResult(
        candidate=candidate,
        sha256=sha256,
        parent="cloud-model",
        parent_sha256="bb",
        margins=None,
        passed=not refusal,
        findings=(found,),
    )
    return Ruling(candidate=candidate, refusal=refusal, evidence=Raw(encode(verdict)))


@pytest.fixture
async def driven(bench: Bench, client: httpx.AsyncClient) -> Driven:
    return Driven(bench, client, (await ask(client, suffix="My Desk!")).json())


async def test_a_new_job_has_openais_form(client: httpx.AsyncClient, bench: Bench) -> None:
    file_id = await stored(client)
    made = (await ask(client, training_file=file_id, seed=3, metadata={"a": "b"})).json()
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    ours = {"max_length": "auto", "rank": "auto", "alpha": "auto", "target_modules": "auto"}
    assert made == {
        "id": made["id"],
        "object": "fine_tuning.job",
        "created_at": int(bench.clock.wall()),
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": auto,
        "model": "default",
        "organization_id": made["organization_id"],
        "result_files": [],
        "status": "validating_files",
        "trained_tokens": None,
        "training_file": file_id,
        "validation_file": None,
        "seed": 3,
        "estimated_finish": None,
        "integrations": [],
        "metadata": {"a": "b"},
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {**auto, **ours, "adaptation": "lora", "patience": None}},
        },
        "suffix": None,
    }
    assert made["id"].startswith("ftjob-")


async def test_a_job_goes_through_its_states(driven: Driven, client: httpx.AsyncClient, bench: Bench) -> None:
    assert (await driven.seen())["status"] == "validating_files"
    await driven.lease()
    await driven.checkpoint(checked=CHECKED)
    queued = await driven.seen()
    assert queued["status"] == "queued"
    assert queued["hyperparameters"] == {"n_epochs": 10, "batch_size": 1, "learning_rate_multiplier": 1.0}
    now = bench.clock.wall()
    await driven.checkpoint(10, 50, checked=CHECKED, running_at=now, step=10, steps=50, step_s=2.0)
    running = await driven.seen()
    assert (running["status"], running["estimated_finish"]) == ("running", int(now + 80))
    assert (await client.post(f"{PATH}/{driven.id}/pause")).json()["status"] == "running"
    await driven.jobs.give_back(driven.id, driven.job.fence)
    assert (await driven.seen())["status"] == "paused"
    assert (await client.post(f"{PATH}/{driven.id}/resume")).json()["status"] == "queued"
    await driven.lease()
    await client.post(f"{PATH}/{driven.id}/cancel")
    await driven.finish()
    cancelled = await driven.seen()
    assert (cancelled["status"], cancelled["fine_tuned_model"]) == ("cancelled", None)
    refused = await client.post(f"{PATH}/{driven.id}/cancel")
    assert refused.status_code == 409


async def test_a_success_is_registered_served_and_leaves_its_figures(
    driven: Driven, client: httpx.AsyncClient, bench: Bench
) -> None:
    await driven.lease()
    name = f"clouds:my-desk-{driven.id.partition('-')[2][:8]}"
    kept = Kept(step=20, at=bench.clock.wall(), name=f"{name}-step-20", metrics=FIGURES)
    last = Kept(step=40, at=bench.clock.wall(), name=name, metrics=FIGURES)
    made = Made(model=name, artefact=name, kind="adapter", sha256="aa", size_bytes=7)
    await driven.finish((kept, last), (made,))
    seen = await driven.seen()
    assert (seen["status"], seen["fine_tuned_model"], seen["trained_tokens"]) == ("succeeded", name, 8000)
    [file_id] = seen["result_files"]
    file = (await client.get(f"/v1/files/{file_id}")).json()
    assert (file["purpose"], file["filename"]) == ("fine-tune-results", f"{driven.id}_metrics.csv")
    listed = (await client.get(f"{PATH}/{driven.id}/checkpoints", params={"limit": 1})).json()
    assert listed["has_more"] is True
    [newest] = listed["data"]
    assert newest["fine_tuned_model_checkpoint"] == name
    assert newest["metrics"] == {"step": 40.0, **FIGURES, "full_valid_loss": 0.625}
    older = (await client.get(f"{PATH}/{driven.id}/checkpoints", params={"after": newest["id"]})).json()
    assert [each["step_number"] for each in older["data"]] == [20]
    rows = await bench.store.read(lambda tx: [*tx.execute(select(schema.adapter)).mappings()])
    assert [(row["deployment"], row["name"], row["artefact"]) for row in rows] == [
        ("clouds", kept.name.partition(":")[2], kept.name),
        ("clouds", name.partition(":")[2], name),
    ]
    assert {row["tenant"] for row in rows} == {driven.job.tenant}
    versions = await bench.store.read(lambda tx: [*tx.execute(select(schema.model_version)).mappings()])
    assert [(row["model"], row["stage"]) for row in versions] == [(name, "candidate")]


async def test_what_the_gate_refused_is_registered_and_judged_but_not_served(
    driven: Driven, client: httpx.AsyncClient, admin: httpx.AsyncClient, bench: Bench
) -> None:
    await driven.lease()
    name = f"clouds:my-desk-{driven.id.partition('-')[2][:8]}"
    kept = Kept(step=20, at=bench.clock.wall(), name=f"{name}-step-20", metrics=FIGURES)
    last = Kept(step=40, at=bench.clock.wall(), name=name, metrics=FIGURES)
    made = Made(model=name, artefact=name, kind="adapter", sha256="aa", size_bytes=7)
    await driven.refuse((kept, last), (made,), ruling(kept.name, "cc", ""), ruling(name, "aa", "it got worse"))
    seen = await driven.seen()
    assert (seen["status"], seen["fine_tuned_model"], seen["trained_tokens"]) == ("failed", None, 8000)
    assert seen["error"] == {"code": "refused_by_gate", "message": "it is refused", "param": None}
    assert len(seen["result_files"]) == 1
    rows = await bench.store.read(lambda tx: [*tx.execute(select(schema.adapter)).mappings()])
    assert [row["artefact"] for row in rows] == [kept.name]  # the checkpoint passed
    [version] = await bench.store.read(lambda tx: [*tx.execute(select(schema.model_version)).mappings()])
    assert (version["model"], version["stage"]) == (name, "candidate")
    verdicts = (await admin.get("/admin/v1/verdicts")).json()["data"]
    assert {each["version_id"]: each["verdict"]["result"]["passed"] for each in verdicts} == {
        version["id"]: False,
        "sha256:cc": True,
    }
    assert all(each["genuine"] for each in verdicts)
    audit = [each for each in (await admin.get("/admin/v1/audit")).json()["data"] if each["action"] == "gate.verdict"]
    assert {each["outcome"] for each in audit} == {"ok", "refused"}
    resumed = (await client.post(f"{PATH}/{driven.id}/resume")).json()
    assert (resumed["status"], resumed["error"], resumed["result_files"]) == ("validating_files", None, [])


async def test_a_failure_says_why_and_of_which_file(driven: Driven) -> None:
    await driven.lease()
    await driven.jobs.fail(driven.id, driven.job.fence, "invalid_training_file", "line 3: no", retry=False)
    failed = await driven.seen()
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "invalid_training_file", "message": "line 3: no", "param": "training_file"}


async def test_events_are_told_the_latest_first_and_by_pages(driven: Driven, client: httpx.AsyncClient) -> None:
    for text in ("files validated: 40 examples", "Step 1/50: train loss=0.5", "Step 2/50: train loss=0.4"):
        driven.jobs.tell(driven.id, "info", text)
    driven.jobs.tell(driven.id, "warning", "line 4: This is the example of line 1 once more.")
    await driven.jobs.write_lines()
    path = f"{PATH}/{driven.id}/events"
    first = (await client.get(path, params={"limit": 2})).json()
    assert first["has_more"] is True
    assert [(event["level"], event["type"]) for event in first["data"]] == [("warn", "message"), ("info", "metrics")]
    assert first["data"][1]["data"] == {"step": 2.0}
    rest = (await client.get(path, params={"after": first["data"][1]["id"]})).json()
    assert [event["message"][:5] for event in rest["data"]] == ["Step ", "files", "What "]
    assert rest["has_more"] is False
    assert (await client.get(path, params={"after": "ftevent-x"})).status_code == 404


async def test_another_tenants_jobs_are_not_there(driven: Driven, bench: Bench) -> None:
    _, secret = await bench.services.keys.create("stranger", "user", tenant="other")
    headers = {"authorization": f"Bearer {secret}"}
    transport = httpx.ASGITransport(bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=headers) as stranger:
        assert (await stranger.get(PATH)).json()["data"] == []
        for act in ("", "/events", "/checkpoints"):
            assert (await stranger.get(f"{PATH}/{driven.id}{act}")).status_code == 404
        for act in ("pause", "resume", "cancel"):
            assert (await stranger.post(f"{PATH}/{driven.id}/{act}")).status_code == 404
        mine = (await driven.seen())["training_file"]
        refused = await ask(stranger, training_file=mine)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "training_file")


async def test_jobs_are_listed_by_pages(client: httpx.AsyncClient) -> None:
    made = [(await ask(client)).json()["id"] for _ in range(3)]
    page = (await client.get(PATH, params={"limit": 2})).json()
    assert [job["id"] for job in page["data"]] == made[:0:-1]
    assert page["has_more"] is True
    rest = (await client.get(PATH, params={"limit": 2, "after": made[1]})).json()
    assert [job["id"] for job in rest["data"]] == made[:1]
    assert rest["has_more"] is False


DPO = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}}
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"model": "gpt-4o"}, 404, "model"),
    ({"training_file": "file-none"}, 400, "training_file"),
    ({"validation_file": "file-none"}, 400, "validation_file"),
    ({"warmth": 1}, 400, "warmth"),
    ({"hyperparameters": {"rank": 0}}, 400, "hyperparameters.rank"),
    ({"hyperparameters": {"target_modules": ["lm_head"]}}, 400, "hyperparameters.target_modules[0]"),
    ({"hyperparameters": {"patience": 2}}, 400, "validation_file"),
    ({"method": DPO, "hyperparameters": {"n_epochs": 1}}, 400, "hyperparameters"),
    ({"method": {"type": "supervised", "dpo": {}}}, 400, "method"),
    ({"method": {"type": "reinforcement"}}, 400, "method.type"),
    ({"suffix": "x" * 65}, 400, "suffix"),
    ({"seed": -1}, 400, "seed"),
    ({"integrations": [{"type": "wandb"}]}, 400, "integrations"),
]


@pytest.mark.parametrize(("changes", "status", "param"), REFUSED, ids=[param for _, _, param in REFUSED])
async def test_what_cannot_be_is_refused_by_its_field(
    client: httpx.AsyncClient, changes: dict[str, Any], status: int, param: str
) -> None:
    refused = await ask(client, **changes)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(("most", "param", "code"), [(8, "rank", "invalid_value"), (0, "model", "not_servable")])
async def test_what_the_deployment_could_not_serve_is_refused_at_once(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, bench: Bench, most: int, param: str, code: str
) -> None:
    bench.services.fine_tuning._places._served_rank = lambda _: most
    refused = await ask(client)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, code)
    assert (await client.get(PATH)).json()["data"] == []
    assert (await ask(client, hyperparameters={"rank": 8})).is_success is bool(most)
    assert (await ask(admin, hyperparameters={"adaptation": "full"})).is_success  # needs no adapter


async def test_the_first_event_tells_how_the_result_is_served(
    client: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    full = {"hyperparameters": {"adaptation": "full"}}
    for made, words in ((await ask(client), "is served as clouds:ft-"), (await ask(admin, **full), "`pileus deploy")):
        path = f"{PATH}/{made.json()['id']}/events"
        [event] = (await admin.get(path) if "deploy" in words else await client.get(path)).json()["data"]
        assert words in event["message"]
        assert event["level"] == "info"


async def test_the_commands_of_the_first_event_keep_an_adapter_its_tenant_s(bench: Bench) -> None:
    bench.directory.drop("clouds")
    _, secret = await bench.services.keys.create("desk", "user", tenant="the desk")
    headers = {"authorization": f"Bearer {secret}"}
    transport = httpx.ASGITransport(bench.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pileus", headers=headers) as client:
        made = (await ask(client, model="fake")).json()["id"]
        [event] = (await client.get(f"{PATH}/{made}/events")).json()["data"]
    assert event["message"].endswith(" --tenant 'the desk'`.")


async def test_a_file_for_something_else_is_refused(client: httpx.AsyncClient) -> None:
    refused = await ask(client, training_file=await stored(client, "batch"))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "training_file")


async def test_preferences_have_a_beta(client: httpx.AsyncClient) -> None:
    made = (await ask(client, method=DPO)).json()
    assert made["method"]["type"] == "dpo"
    assert made["method"]["dpo"]["hyperparameters"]["beta"] == 0.2


async def test_only_administrators_make_models_of_their_own(
    client: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    full = {"hyperparameters": {"adaptation": "full"}}
    assert (await ask(client, **full)).status_code == 403
    made = (await ask(admin, **full)).json()
    assert made["method"]["supervised"]["hyperparameters"]["adaptation"] == "full"


async def test_a_tenants_open_jobs_are_bounded(client: httpx.AsyncClient, bench: Bench) -> None:
    file_id = await stored(client)
    for _ in range(bench.services.settings.fine_tuning.max_open):
        assert (await ask(client, training_file=file_id)).status_code == 200
    assert (await ask(client, training_file=file_id)).status_code == 429
