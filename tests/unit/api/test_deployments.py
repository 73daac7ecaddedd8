"""`/admin/v1/deployments`: a real fleet of fake replicas, a real store, and what operators may and may not do."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from changing_fleet import deployment, running
from pileus.api.app import create_app
from pileus.config.settings import ANY_ENGINE
from pileus.config.settings import Deployment as Wanted
from pileus.core.errors import InvalidRequest
from pileus.evaluation.promotion import Promotions
from pileus.fleet.controller import Fleet
from pileus.fleet.deployments import Deployments
from pileus.fleet.memory import Footprint
from pileus.fleet.plan import policy_of, revived
from pileus.fleet.records import Deployment
from pileus.models.progress import Progress
from pileus.store.tables import DeploymentTable
from replicas import PATIENCE_S
from unit.api.bench import Bench

PATH = "/admin/v1/deployments"
GB = 10**9
NEW: dict[str, Any] = {"name": "new", "model": "fake", "engine": "fake"}


class Workshop:
    """Meets `fleet.deployments.Workshop`. `broken` models are refused by their replica."""

    def __init__(self) -> None:
        self.open = asyncio.Event()  # until it is set, nothing is made
        self.open.set()

    def with_engine(self, wanted: Wanted) -> Wanted:
        return wanted.model_copy(update={"engine": "fake"}) if wanted.engine == ANY_ENGINE else wanted

    def check(self, wanted: Wanted) -> Footprint:
        if wanted.model == "none":
            raise InvalidRequest("there is no model 'none'", param="model")
        return Footprint(GB, GB)

    async def make(self, wanted: Wanted, progress: Progress) -> Deployment:
        progress("downloading", 0, 0)
        await self.open.wait()
        spec = {"refuse": "it is broken"} if wanted.options.get("broken") else {"options": {"slots": 4}}
        made = deployment(wanted.name, wanted.replicas, policy_of(wanted), **spec)
        info = made.info
        return made.evolve(
            info=type(info)(
                name=wanted.name,
                model=wanted.model,
                engine="fake",
                aliases=wanted.aliases,
                long_texts=wanted.long_texts,
            ),
            footprint=self.check(wanted),
        )


@dataclass
class House:
    """What a test holds in its hands."""

    admin: httpx.AsyncClient
    fleet: Fleet
    bench: Bench
    memory: list[int]
    workshop: Workshop

    async def ended(self, name: str) -> dict[str, Any] | None:
        """The deployment once the act on it has ended; None when it is gone."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                response = await self.admin.get(f"{PATH}/{name}")
                if response.status_code == 404:
                    return None
                if response.json()["act"]["ended"]:
                    return dict(response.json())
                await asyncio.sleep(0.01)

    async def audit(self) -> list[tuple[str, str]]:
        rows = await self.bench.services.audit.latest(20)
        return [(event.action, event.target) for _, event in reversed(rows) if event.action.startswith("deployment")]

    def stored(self) -> list[str]:
        return [row.name for row in self.bench.store.read_blocking(DeploymentTable().all)]


@pytest.fixture
async def house(bench: Bench, tmp_path: Path) -> AsyncIterator[House]:
    settled = Wanted(name="fake", model="fake", engine="fake")
    memory, workshop = [100 * GB], Workshop()
    async with running(tmp_path, deployment()) as fleet:
        acts = Deployments(
            fleet,
            [settled],
            [],
            store=bench.store,
            workshop=workshop,
            available=lambda: memory[0],
            clock=bench.clock,
        )
        judge, metrics = bench.services.judge, bench.services.metrics
        names = Promotions(bench.store, fleet.directory, judge, metrics, fleet.tell, bench.clock)
        app = create_app(
            replace(
                bench.services,
                deployments=acts,
                promotions=names,
                timeline=fleet.timeline,
                directory=fleet.directory,
            )
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://pileus", headers=bench.bearer("admin")
        ) as admin:
            yield House(admin, fleet, bench, memory, workshop)
        await acts.acts.stop()


async def test_a_deployment_is_made_scaled_restarted_and_taken_away(house: House) -> None:
    made = await house.admin.put(f"{PATH}/new", json=NEW | {"aliases": ["fresh"]})
    assert made.status_code == 202
    assert made.json()["act"]["kind"] == "deploy"
    found = await house.ended("new")
    assert found is not None
    assert (found["desired"], found["ready"], found["in_settings"], found["scaling"]) == (1, 1, False, None)
    ended = {"kind": "deploy", "stage": "starting", "done": 1, "total": 1, "ended": True, "error": "", "number": 1}
    assert found["act"] == ended

    await house.admin.patch(f"{PATH}/new", json={"replicas": 2})
    found = await house.ended("new")
    assert found is not None
    assert found["ready"] == 2
    await house.admin.post(f"{PATH}/new/restart")
    found = await house.ended("new")
    assert found is not None
    assert [each["id"] for each in found["replicas"]] == ["new/2", "new/3"]
    assert {each["name"] for each in (await house.admin.get(PATH)).json()["data"]} == {"fake", "new"}
    logs = (await house.admin.get(f"{PATH}/new/logs?lines=5")).json()["data"]
    assert [each["replica"] for each in logs] == ["new/2", "new/3"]

    assert (await house.admin.delete(f"{PATH}/new")).status_code == 202
    assert await house.ended("new") is None
    assert await house.audit() == [
        ("deployment.deploy", "new"),
        ("deployment.scale", "new to 2"),
        ("deployment.restart", "new"),
        ("deployment.undeploy", "new"),
    ]


async def test_what_becomes_of_long_texts_is_seen_before_the_first_replica_is_there_and_after(house: House) -> None:
    house.workshop.open.clear()
    await house.admin.put(f"{PATH}/new", json=NEW | {"long_texts": "segments"})
    shown = (await house.admin.get(PATH)).json()["data"]
    assert {each["name"]: each["long_texts"] for each in shown} == {"fake": "refuse", "new": "segments"}
    assert "new" not in house.fleet.directory.deployments()
    house.workshop.open.set()
    found = await house.ended("new")
    assert found is not None
    assert (found["ready"], found["long_texts"]) == (1, "segments")


async def test_what_a_public_name_leads_to_is_not_undeployed_unless_it_is_forced(house: House) -> None:
    for name in ("one", "two"):
        await house.admin.put(f"{PATH}/{name}", json=NEW | {"name": name})
        await house.ended(name)
    traffic = "/admin/v1/traffic/chat"
    await house.admin.put(traffic, json={"to": "one", "force": True})
    refused = await house.admin.delete(f"{PATH}/one")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (409, "in_use")
    assert "the public name chat leads to one: lead it elsewhere (`pileus promote chat --to ...`)" in error["message"]
    assert "one" in house.fleet.directory.deployments()
    await house.admin.put(traffic, json={"to": "two", "force": True, "canary": 0.5})
    for each in ("one", "two"):  # the tried one, and what it is tried beside
        refused = await house.admin.delete(f"{PATH}/{each}")
        assert refused.status_code == 409
        assert "`pileus rollback chat`" in refused.json()["error"]["message"]
    await house.admin.post(f"{traffic}/rollback", json={})
    assert (await house.admin.delete(f"{PATH}/two")).status_code == 202
    assert await house.ended("two") is None
    assert (await house.admin.delete(f"{PATH}/one?force=maybe")).json()["error"]["param"] == "force"
    assert (await house.admin.delete(f"{PATH}/one?force=true")).status_code == 202
    assert await house.ended("one") is None
    assert ("deployment.undeploy", "one") in await house.audit()
    gone = await house.admin.put("/admin/v1/traffic/other", json={"to": "one", "force": True})
    assert gone.status_code == 404


async def test_what_was_deployed_is_kept_as_it_was_scaled_until_it_is_taken_away(house: House) -> None:
    await house.admin.put(f"{PATH}/new", json=NEW)
    await house.ended("new")
    await house.admin.patch(f"{PATH}/new", json={"replicas": 1, "min_replicas": 0, "max_replicas": 3})
    await house.ended("new")
    [again] = revived([], house.bench.store.read_blocking(DeploymentTable().all))
    assert (again.name, again.replicas, again.min_replicas, again.max_replicas) == ("new", 1, 0, 3)
    await house.admin.delete(f"{PATH}/new")
    assert house.stored() == []


async def test_the_settings_win_over_what_was_deployed_under_the_same_name(house: House) -> None:
    await house.admin.put(f"{PATH}/new", json=NEW | {"aliases": ["fresh"]})
    rows = house.bench.store.read_blocking(DeploymentTable().all)
    assert revived([Wanted(name="new", model="other")], rows) == []
    assert revived([Wanted(name="other", model="other", aliases=("fresh",))], rows) == []
    assert len(revived([Wanted(name="other", model="other")], rows)) == 1
    await house.ended("new")


async def test_what_the_settings_name_changes_until_the_next_start_only(house: House) -> None:
    await house.admin.patch(f"{PATH}/fake", json={"replicas": 2})
    found = await house.ended("fake")
    assert found is not None
    assert (found["ready"], found["in_settings"]) == (2, True)
    assert house.stored() == []
    gone = await house.admin.delete(f"{PATH}/fake")
    assert "next start brings it back" in gone.json()["note"]
    assert await house.ended("fake") is None


async def test_a_change_that_does_not_start_is_told_and_undone(house: House) -> None:
    await house.admin.put(f"{PATH}/new", json=NEW)
    await house.ended("new")
    await house.admin.put(f"{PATH}/new", json=NEW | {"options": {"broken": True}})
    found = await house.ended("new")
    assert found is not None
    assert found["act"]["error"] == "new does not start: it is broken"
    assert found["ready"] == 1
    [row] = house.bench.store.read_blocking(DeploymentTable().all)
    assert "broken" not in row.body


async def test_what_does_not_fit_is_refused_with_the_arithmetic_before_anything_is_written(house: House) -> None:
    house.memory[0] = 3 * GB
    refused = await house.admin.put(f"{PATH}/new", json=NEW | {"replicas": 2})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == (
        "new does not fit: 2 x (1.00 GB of weights + 1.00 GB of KV cache) = 4.00 GB, "
        "and 3.00 GB of memory are available"
    )
    assert (await house.admin.put(f"{PATH}/new", json=NEW)).status_code == 202
    await house.ended("new")
    assert (await house.admin.patch(f"{PATH}/new", json={"replicas": 3})).status_code == 400
    assert [action for action, _ in await house.audit()] == ["deployment.deploy"]


async def test_who_did_what_is_on_the_time_line_and_what_failed_with_its_reason(house: House) -> None:
    await house.admin.put(f"{PATH}/new", json=NEW)
    await house.ended("new")
    await house.admin.patch(f"{PATH}/new", json={"replicas": 2})
    await house.ended("new")
    await house.admin.put(f"{PATH}/new", json=NEW | {"replicas": 2, "options": {"broken": True}})
    await house.ended("new")
    await house.admin.delete(f"{PATH}/new")
    await house.ended("new")
    told = (await house.admin.get("/admin/v1/events?deployment=new")).json()["data"]
    acts = [each for each in told if not each["kind"].startswith("replica_")]
    assert [each["kind"] for each in acts] == ["deployed", "scaled", "roll_begun", "deploy_failed", "undeployed"]
    assert {each["by"] for each in acts if "by" in each} == {"boss"}
    assert acts[3]["reason"] == "new does not start: it is broken"


async def test_those_who_are_held_until_a_replica_is_there_are_counted(house: House) -> None:
    house.bench.pipeline.held = 3
    found = (await house.admin.get(f"{PATH}/fake")).json()
    assert (found["waiting"], found["held"], found["queue"]) == (3, 3, [])


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"model": "none"}, "model"),
        ({"name": "other"}, "name"),
        ({"aliases": ["fake"]}, "aliases"),
        ({"replicas": 65}, "replicas"),
        ({"replicas": 2, "max_replicas": 1}, "max_replicas"),
        ({"replicas": 2, "min_replicas": 3}, "min_replicas"),
        ({"idle_s": 0}, "idle_s"),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_what_is_wrong_with_a_wish_is_named(house: House, wish: dict[str, Any], param: str) -> None:
    response = await house.admin.put(f"{PATH}/new", json=NEW | wish)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert house.stored() == []


async def test_the_model_of_a_deployment_does_not_change_under_its_users(house: House) -> None:
    response = await house.admin.put(f"{PATH}/fake", json=NEW | {"name": "fake", "model": "better"})
    assert response.status_code == 400
    assert "undeploy it first" in response.json()["error"]["message"]


async def test_what_is_not_there_is_not_found(house: House) -> None:
    for method, path, body in (
        ("GET", "none", None),
        ("PATCH", "none", {"replicas": 1}),
        ("POST", "none/restart", {}),
        ("DELETE", "none", None),
        ("GET", "none/logs", None),
    ):
        response = await house.admin.request(method, f"{PATH}/{path}", json=body)
        assert response.status_code == 404
        assert "there is: fake" in response.json()["error"]["message"]


async def test_only_an_admin_changes_what_runs(house: House) -> None:
    headers = house.bench.bearer("user")
    for method, path in (("GET", ""), ("PUT", "/new"), ("PATCH", "/fake"), ("DELETE", "/fake"), ("GET", "/fake/logs")):
        response = await house.admin.request(method, f"{PATH}{path}", json={}, headers=headers)
        assert response.status_code == 403
