"""`/admin/v1/traffic`: who may promote what, where requests then go, and what canaries come to."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import Connection

from pileus.config.settings import Gate
from pileus.evaluation.policy import Policy
from pileus.evaluation.promotion import Promotions
from pileus.evaluation.recording import VerdictBody, subjects
from pileus.evaluation.records import Finding, GateResult, Margins
from pileus.fleet.records import DeploymentInfo
from pileus.models.artefact import MANIFEST, digest_file
from pileus.observability.figures import RequestFigures
from pileus.store.traffic_table import Verdict, VerdictTable
from unit.api.bench import Bench

OLD, NEW = "clouds", "storms"
OLD_MODEL, NEW_MODEL = "cloud-model", "storm-model"
MARGINS = Margins()
PATH = "/admin/v1/traffic/chat"


@pytest.fixture
def house(bench: Bench) -> Bench:
    """With two deployments of two models, which are installed."""
    for name, model in ((OLD, OLD_MODEL), (NEW, NEW_MODEL)):
        aliases = ("default",) if name == OLD else ()
        bench.directory.put(DeploymentInfo(name=name, model=model, engine="fake", aliases=aliases))
        install(bench, model)
    return bench


def manifest(bench: Bench, model: str) -> Path:
    return bench.services.settings.data_dir / "models" / model / MANIFEST


def install(bench: Bench, model: str) -> None:
    path = manifest(bench, model)
    path.parent.mkdir(parents=True)
    path.write_text(f'{{"name": "{model}"}}')


def demand(bench: Bench, **gate: Any) -> None:
    """Have the settings be those."""
    bench.services.judge.policy = Policy(Gate(**gate), 0.02)


def judged(
    bench: Bench,
    *findings: Finding,
    passed: bool = True,
    forged: bool = False,
    moved: bool = False,
    parent: str = OLD_MODEL,
    margins: Margins | None = MARGINS,
) -> None:
    """Let the gate have said something of the new model as it is."""
    digest, parents = (digest_file(manifest(bench, model)).sha256 for model in (NEW_MODEL, parent))
    found = findings or (Finding(check="perplexity", passed=passed, says="1.2 times the parent's"),)
    result = GateResult(
        candidate=NEW_MODEL,
        sha256=parents if moved else digest,
        parent=parent,
        parent_sha256=parents,
        margins=margins,
        passed=passed,
        findings=found,
    )

    def write(tx: Connection) -> None:
        number = len(VerdictTable().latest(tx, 100))
        body = msgspec.json.encode(VerdictBody(id=f"vrd_{number}", at=number, job="job_1", by="key_1", result=result))
        verdict = Verdict(
            id=f"vrd_{number}",
            version_id=subjects(tx, digest)[0],
            passed=passed,
            at=float(number),
            body=body,
            signature=b"forged" if forged else bench.sign_verdict(body),
        )
        VerdictTable().insert(tx, verdict)

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


async def refused(admin: httpx.AsyncClient) -> str:
    answer = await promote(admin)
    assert answer.status_code == 403, answer.text
    return str(answer.json()["error"]["message"])


@pytest.fixture
async def served(house: Bench, admin: httpx.AsyncClient) -> Bench:
    """The old one answers for the name."""
    assert (await admin.put(PATH, json={"to": OLD})).status_code == 200
    return house


NOT_JUDGED = "the gate has not judged storm-model as it is now"


async def test_what_the_gate_has_not_judged_is_refused_and_can_be_forced(
    served: Bench, admin: httpx.AsyncClient
) -> None:
    command = "pileus gate storm-model --parent cloud-model"
    assert await refused(admin) == f"{NOT_JUDGED}: run `{command}`, or force it (`--force`)."
    assert served.directory.resolve("chat").name == OLD
    forced = await promote(admin, force=True)
    assert forced.json()["traffic"]["arms"] == [{"deployment": NEW, "weight": 1.0}]
    assert served.directory.resolve("chat").name == NEW
    assert await audited(admin) == [
        ("traffic.promote", f"chat to {NEW}", f"forced: {NOT_JUDGED}"),
        ("traffic.promote", f"chat to {NEW}", f"refused: {NOT_JUDGED}"),
        ("traffic.promote", f"chat to {OLD}", "ok"),
    ]


async def test_a_good_verdict_lets_it_through(served: Bench, admin: httpx.AsyncClient) -> None:
    judged(served)
    assert (await promote(admin)).status_code == 200
    [shown] = (await admin.get("/admin/v1/verdicts")).json()["data"]
    assert shown["genuine"]
    assert shown["verdict"]["result"]["passed"]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"passed": False}, "the gate refused storm-model (perplexity: 1.2 times the parent's)"),
        ({"forged": True}, "was not signed by this Pileus"),
        ({"moved": True}, "was not signed by this Pileus"),  # a true one, of other files
    ],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "beside another"])
async def test_a_bad_or_forged_verdict_does_not_even_where_nothing_is_served(
    house: Bench, admin: httpx.AsyncClient, how: dict[str, bool], why: str, is_first: bool
) -> None:
    if not is_first:
        await admin.put(PATH, json={"to": OLD})
    judged(house, **how)  # type: ignore[arg-type]
    assert why in await refused(admin)


async def test_a_verdict_is_of_the_files_that_it_saw(served: Bench, admin: httpx.AsyncClient) -> None:
    judged(served)
    manifest(served, NEW_MODEL).write_text('{"other": 1}')
    assert NOT_JUDGED in await refused(admin)


async def test_a_verdict_is_beside_what_the_name_serves_now(served: Bench, admin: httpx.AsyncClient) -> None:
    install(served, "mist-model")
    judged(served, parent="mist-model")
    said = await refused(admin)
    assert "the gate judged storm-model beside mist-model, and chat serves cloud-model: run `pileus gate" in said
    demand(served, parent="any")
    judged(served, parent="mist-model", passed=False)
    assert "the gate refused storm-model" in await refused(admin)
    demand(served)
    judged(served)
    judged(served, parent="mist-model", passed=False)  # later, and beside a better one: that is nobody's loss
    assert (await promote(admin)).status_code == 200


async def test_a_parent_that_changed_is_another(served: Bench, admin: httpx.AsyncClient) -> None:
    judged(served)
    manifest(served, OLD_MODEL).write_text('{"name": "cloud-model", "format": 2}')
    assert "beside cloud-model, and chat serves cloud-model" in await refused(admin)
    demand(served, parent="any")
    assert (await promote(admin)).status_code == 200


async def test_the_latest_verdict_beside_what_is_served_decides(served: Bench, admin: httpx.AsyncClient) -> None:
    judged(served)
    judged(served, passed=False)
    command = "run `pileus gate storm-model --parent cloud-model`, or force it"
    assert f"the gate refused storm-model (perplexity: 1.2 times the parent's): {command}" in await refused(admin)


async def test_a_first_model_that_was_refused_is_not_let_in_by_a_verdict_beside_a_worse_parent(
    house: Bench, admin: httpx.AsyncClient
) -> None:
    install(house, "mist-model")
    judged(house, passed=False)
    judged(house, parent="mist-model")
    assert "run `pileus gate storm-model --parent cloud-model`, or force it" in await refused(admin)
    judged(house)
    assert (await promote(admin)).status_code == 200


TASK = Finding(check="task", passed=True, says="not worse")


@pytest.mark.parametrize(
    ("margins", "findings", "wide"),
    [
        (Margins(perplexity=0.1), (), ""),
        (Margins(perplexity=0.2), (), "with a margin of 0.2 for perplexity, and `gate.max_perplexity_margin` is 0.1"),
        (Margins(score=0.5), (), ""),  # of no task
        (Margins(score=0.05), (TASK,), ""),
        (Margins(score=0.5), (TASK,), "with a margin of 0.5 for scores, and `gate.max_score_margin` is 0.05"),
    ],
)
async def test_a_margin_counts_up_to_a_bound(
    served: Bench, admin: httpx.AsyncClient, margins: Margins, findings: tuple[Finding, ...], wide: str
) -> None:
    judged(served, *findings, margins=margins)
    if wide:
        assert f"the gate passed storm-model {wide}: run `pileus gate" in await refused(admin)
    else:
        assert (await promote(admin)).status_code == 200


async def test_the_command_has_the_margins_that_count(served: Bench, admin: httpx.AsyncClient) -> None:
    demand(served, max_perplexity_margin=0.01, max_score_margin=0.015)
    judged(served)
    assert "--parent cloud-model --margin 0.01 --score-margin 0.015`" in await refused(admin)


def loss(most: float) -> Finding:
    return Finding(check="loss", passed=True, says="lower", figures={"most": most})


@pytest.mark.parametrize(
    ("finding", "wide"),
    [
        (loss(0.02), ""),
        (loss(0.5), "with a margin of 0.5 for loss, and `fine_tuning.gate_margin` is 0.02"),
        (Finding(check="weights", passed=True, says="finite"), "without a look at its loss"),
    ],
)
async def test_of_a_fine_tuning_its_own_verdict_beside_its_base_counts(
    served: Bench, admin: httpx.AsyncClient, finding: Finding, wide: str
) -> None:
    install(served, "mist-model")
    judged(served, finding, parent="mist-model", margins=None)
    if wide:
        assert f"the gate passed storm-model {wide}" in await refused(admin)
    else:
        assert (await promote(admin)).status_code == 200


async def test_beside_nothing_a_verdict_is_needed_only_where_the_settings_want_it(
    house: Bench, admin: httpx.AsyncClient
) -> None:
    demand(house, judge_first=True)
    assert f"{NOT_JUDGED}: run `pileus gate storm-model --parent ...`" in await refused(admin)
    judged(house, margins=Margins(perplexity=1.0))
    assert "with a margin of 1 for perplexity" in await refused(admin)
    demand(house)
    assert (await promote(admin)).status_code == 200
    assert (await audited(admin))[0] == ("traffic.promote", f"chat to {NEW}", "ok")


async def test_another_deployment_of_the_very_files_that_are_served_needs_no_verdict(
    served: Bench, admin: httpx.AsyncClient
) -> None:
    served.directory.put(DeploymentInfo(name=NEW, model=OLD_MODEL, engine="fake"))
    assert (await promote(admin)).status_code == 200


async def test_what_is_no_artefact_cannot_be_judged_and_nothing_beside_it(
    served: Bench, admin: httpx.AsyncClient
) -> None:
    manifest(served, OLD_MODEL).unlink()
    assert await refused(admin) == (
        "chat serves cloud-model, which is no artefact that the gate could hold storm-model against: "
        "force it (`--force`)."
    )
    manifest(served, NEW_MODEL).unlink()
    assert "storm-model is not installed as an artefact that the gate could have judged" in await refused(admin)
    await admin.delete(PATH)
    assert (await promote(admin)).status_code == 200  # nothing is served


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
