"""`/admin/v1/traffic`: who may promote what, where requests then go, and what canaries come to."""

from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import Connection

from pileus.evaluation.promotion import Promotions
from pileus.evaluation.recording import VerdictBody, subjects
from pileus.evaluation.records import Finding, GateResult, Margins
from pileus.fleet.records import DeploymentInfo
from pileus.models.artefact import MANIFEST, digest_file
from pileus.observability.figures import RequestFigures
from pileus.store.traffic_table import Verdict, VerdictTable
from unit.api.bench import Bench

OLD, NEW = "clouds", "storms"
PATH = "/admin/v1/traffic/chat"


@pytest.fixture
def house(bench: Bench) -> Bench:
    """With a second deployment, of another model, that is installed."""
    bench.directory.put(DeploymentInfo(name=NEW, model="storm-model", engine="fake"))
    folder = bench.services.settings.data_dir / "models" / "storm-model"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    return bench


def judged(bench: Bench, *, passed: bool = True, forged: bool = False) -> None:
    """Let the gate have said something of the model as it is."""
    manifest = bench.services.settings.data_dir / "models" / "storm-model" / MANIFEST
    digest = digest_file(manifest).sha256
    finding = Finding(check="perplexity", passed=passed, says="1.2 times the parent's")
    result = GateResult(
        candidate="storm-model",
        sha256=digest,
        parent="cloud-model",
        parent_sha256="",
        margins=Margins(),
        passed=passed,
        findings=(finding,),
    )
    body = msgspec.json.encode(VerdictBody(id="vrd_1", at=1.0, job="job_1", by="key_1", result=result))
    sign = bench.services.judge._sign

    def write(tx: Connection) -> None:
        VerdictTable().insert(
            tx,
            Verdict(
                id="vrd_1",
                version_id=subjects(tx, digest)[0],
                passed=passed,
                at=1.0,
                body=body,
                signature=b"forged" if forged else sign(body),
            ),
        )

    bench.store.write_blocking(write)


async def promote(admin: httpx.AsyncClient, **wish: Any) -> httpx.Response:
    return await admin.put(PATH, json={"to": NEW} | wish)


async def audited(admin: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    events = (await admin.get("/admin/v1/audit")).json()["data"]
    return [(each["action"], each["target"], each["outcome"]) for each in events if "traffic" in each["action"]]


def shares(bench: Bench, count: int = 400) -> float:
    """Of the new deployment."""
    names = [bench.directory.resolve("chat", lambda n=n: str(n)).name for n in range(count)]  # type: ignore[misc]
    return names.count(NEW) / count


async def test_what_the_gate_has_not_judged_is_refused_and_can_be_forced(
    house: Bench, admin: httpx.AsyncClient
) -> None:
    refused = await promote(admin)
    assert refused.status_code == 403
    assert "the gate has not judged storm-model as it is now" in refused.json()["error"]["message"]
    forced = await promote(admin, force=True)
    assert forced.json()["traffic"]["arms"] == [{"deployment": NEW, "weight": 1.0}]
    assert house.directory.resolve("chat").name == NEW
    assert await audited(admin) == [
        ("traffic.promote", f"chat to {NEW}", "forced: the gate has not judged storm-model as it is now"),
        ("traffic.promote", f"chat to {NEW}", "not_judged"),
    ]


async def test_a_good_verdict_lets_it_through(house: Bench, admin: httpx.AsyncClient) -> None:
    judged(house)
    assert (await promote(admin)).status_code == 200
    [shown] = (await admin.get("/admin/v1/verdicts")).json()["data"]
    assert shown["genuine"]
    assert shown["verdict"]["result"]["passed"]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"passed": False}, "the gate refused storm-model (perplexity: 1.2 times the parent's)"),
        ({"forged": True}, "was not signed by this Pileus"),
    ],
)
async def test_a_bad_or_forged_verdict_does_not(
    house: Bench, admin: httpx.AsyncClient, how: dict[str, bool], why: str
) -> None:
    judged(house, **how)
    assert why in (await promote(admin)).json()["error"]["message"]


async def test_a_verdict_is_of_the_files_that_it_saw(house: Bench, admin: httpx.AsyncClient) -> None:
    judged(house)
    (house.services.settings.data_dir / "models" / "storm-model" / MANIFEST).write_text('{"other": 1}')
    assert "has not judged storm-model as it is now" in (await promote(admin)).json()["error"]["message"]


async def test_a_canary_has_its_share_then_more_then_all(house: Bench, admin: httpx.AsyncClient) -> None:
    await admin.put(PATH, json={"to": OLD, "force": True})
    found = await promote(admin, force=True, canary=0.25, watch_s=20.0, least_requests=5)
    assert [arm["weight"] for arm in found.json()["traffic"]["arms"]] == [0.25, 0.75]
    assert shares(house) == pytest.approx(0.25, abs=0.06)
    again = await promote(admin, force=True)
    assert "has a canary" in again.json()["error"]["message"]
    for expected in (0.5, 1.0):
        serve(house, NEW, 5)
        house.clock.advance(10.1)
        await house.services.promotions.tick()
        assert shares(house) == pytest.approx(expected, abs=0.06)
    back = await admin.post(f"{PATH}/rollback", json={})
    assert back.json()["traffic"]["arms"] == [{"deployment": OLD, "weight": 1.0}]
    assert (await admin.post(f"{PATH}/rollback", json={})).status_code == 400


async def test_a_canary_that_fails_is_rolled_back_by_itself(house: Bench, admin: httpx.AsyncClient) -> None:
    await admin.put(PATH, json={"to": OLD, "force": True})
    await promote(admin, force=True, canary=0.1)
    serve(house, OLD, 50)
    serve(house, NEW, 4, outcome="error")
    await house.services.promotions.tick()
    traffic = (await admin.get(PATH)).json()["traffic"]
    assert traffic["canary"] is None
    assert traffic["arms"] == [{"deployment": OLD, "weight": 1.0}]
    assert traffic["said"] == "4 of its 4 requests failed, of the stable deployment's 0 of 50"
    action, target, outcome = (await audited(admin))[0]
    assert (action, target) == ("traffic.rollback", f"chat from {NEW} to {OLD}")
    assert "4 of its 4 requests failed" in outcome


async def test_a_canary_whose_deployment_goes_is_rolled_back(house: Bench, admin: httpx.AsyncClient) -> None:
    await admin.put(PATH, json={"to": OLD, "force": True})
    await promote(admin, force=True, canary=0.5)
    house.directory.drop(NEW)
    assert shares(house) == 0
    await house.services.promotions.tick()
    assert (await admin.get(PATH)).json()["traffic"]["said"] == "it is not deployed any more"


async def test_names_outlive_the_server(house: Bench, admin: httpx.AsyncClient) -> None:
    await admin.put(PATH, json={"to": OLD, "force": True})
    await promote(admin, force=True, canary=0.25)
    before = house.services.promotions
    house.directory.route("chat", ())
    after = Promotions(
        house.store, house.directory, house.services.judge, house.services.metrics, before._tell, house.clock
    )
    after.open()
    assert after.all() == before.all()
    assert shares(house) == pytest.approx(0.25, abs=0.06)


async def test_a_public_name_is_listed_and_may_be_an_alias(house: Bench, admin: httpx.AsyncClient) -> None:
    await admin.put("/admin/v1/traffic/default", json={"to": NEW, "force": True})
    assert house.directory.resolve("default").name == NEW
    listed = [each["id"] for each in (await admin.get("/v1/models")).json()["data"]]
    assert listed == [OLD, NEW, "default"]
    assert (await admin.get("/v1/models/default")).json()["id"] == "default"
    assert (await admin.delete("/admin/v1/traffic/default")).json() == {"name": "default", "removed": True}
    assert house.directory.resolve("default").name == OLD


async def test_only_administrators_promote(house: Bench, client: httpx.AsyncClient) -> None:
    assert (await client.put(PATH, json={"to": OLD})).status_code == 403
    assert (await client.get(PATH)).status_code == 403


@pytest.mark.parametrize(
    ("wish", "status", "words"),
    [
        ({"to": "rain"}, 404, "there is no deployment 'rain'"),
        ({"to": NEW, "canary": 0.1, "force": True}, 400, "means nothing yet"),
        ({"to": NEW, "canary": 1.5}, 400, "canary"),
        ({"to": NEW, "share": 0.1}, 400, "share"),
    ],
)
async def test_what_has_no_sense_is_refused(
    house: Bench, admin: httpx.AsyncClient, wish: dict[str, Any], status: int, words: str
) -> None:
    answer = await admin.put(PATH, json=wish)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def serve(bench: Bench, deployment: str, requests: int, outcome: str = "stop") -> None:
    for _ in range(requests):
        figures = RequestFigures(outcome=outcome, ttft_s=None if outcome == "error" else 0.1)
        bench.services.metrics.request_finished(deployment, figures)
