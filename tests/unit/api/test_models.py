"""`/admin/v1/models`: who sees what of the registry, and who may change it."""

import httpx
import pytest

from made_versions import job, made, shelve
from pileus.models.registry import Parent, register_made
from unit.api.bench import Bench

PATH = "/admin/v1/models"


@pytest.fixture(autouse=True)
def versions(bench: Bench) -> None:
    """`mine` in two versions, and one of another tenant."""
    models_dir = bench.services.settings.data_dir / "models"
    for number in (1, 2):
        sha256 = shelve(models_dir, f"mine-{number}", {"adapter.json": bytes(number)})
        parent = Parent("dataset", "corpus", "trained on")
        ended = job(f"{number}", made(f"mine-{number}", sha256, model="mine", parents=(parent,), loss=1 / number))
        bench.store.write_blocking(lambda tx, ended=ended: register_made(tx, ended))
    foreign = job("f", made("theirs-1", "0" * 64, model="theirs"), tenant="rain")
    bench.store.write_blocking(lambda tx: register_made(tx, foreign))


async def test_models_are_listed_with_versions_stages_and_aliases(admin: httpx.AsyncClient) -> None:
    await admin.put(f"{PATH}/mine/aliases/production", json={"version": "1"})
    staged = await admin.put(f"{PATH}/mine/versions/production/stage", json={"stage": "production"})
    assert (staged.status_code, staged.json()["stage"], staged.json()["aliases"]) == (200, "production", ["production"])
    listed = (await admin.get(PATH)).json()["data"]
    assert [(model["name"], [each["number"] for each in model["versions"]]) for model in listed] == [
        ("mine", [2, 1]),
        ("theirs", [1]),
    ]
    assert [(each["alias"], each["number"]) for each in listed[0]["aliases"]] == [("production", 1)]
    assert (await admin.delete(f"{PATH}/mine/aliases/production")).json()["deleted"]
    assert (await admin.get(f"{PATH}/mine")).json()["aliases"] == []
    actions = [event["action"] for event in (await admin.get("/admin/v1/audit")).json()["data"]]
    assert actions[:3] == ["model.alias_drop", "model.stage", "model.alias"]


async def test_a_user_reads_its_own_and_changes_nothing(client: httpx.AsyncClient) -> None:
    assert [model["name"] for model in (await client.get(PATH)).json()["data"]] == ["mine"]
    assert (await client.get(f"{PATH}/theirs")).status_code == 404
    assert (await client.get(f"{PATH}/theirs/versions/1/card")).status_code == 404
    for method, path, body in (
        ("PUT", "mine/versions/1/stage", {"stage": "retired"}),
        ("PATCH", "mine/versions/1/card", {"notes": "x"}),
        ("PUT", "mine/aliases/a", {"version": "1"}),
        ("DELETE", "mine/aliases/a", None),
        ("POST", "mine/versions/1/sign", None),
    ):
        refused = await client.request(method, f"{PATH}/{path}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied"), path


async def test_a_card_is_changed_and_read_as_markdown(admin: httpx.AsyncClient) -> None:
    changed = await admin.patch(f"{PATH}/mine/versions/1/card", json={"intended_use": "Clouds.", "licence": "MIT"})
    assert changed.json()["card"]["intended_use"] == "Clouds."
    page = await admin.get(f"{PATH}/mine/versions/1/card")
    assert page.headers["content-type"].startswith("text/markdown")
    assert "| Licence | MIT |" in page.text
    wrong = await admin.patch(f"{PATH}/mine/versions/1/card", json={"purpose": "x"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "purpose")


async def test_versions_are_compared_also_of_two_models(admin: httpx.AsyncClient) -> None:
    found = (await admin.get(f"{PATH}/mine/versions/1/diff?with=2")).json()
    assert found["figures"] == [{"name": "loss", "before": 1.0, "after": 0.5}]
    across = (await admin.get(f"{PATH}/mine/versions/1/diff?with=theirs@latest")).json()
    assert (across["before"], across["after"], across["files"]) == ("mine@1", "theirs@1", None)
    assert (await admin.get(f"{PATH}/mine/versions/1/diff")).json()["error"]["param"] == "with"


async def test_lineage_is_a_graph_of_nodes_and_edges(admin: httpx.AsyncClient) -> None:
    graph = (await admin.get(f"{PATH}/mine/lineage?version=2")).json()
    assert {node["kind"] for node in graph["nodes"]} == {"version", "job", "dataset"}
    ids = {f"{node['kind']}:{node['id']}" for node in graph["nodes"]}
    assert {end for edge in graph["edges"] for end in (edge["child"], edge["parent"])} <= ids
    assert (await admin.get(f"{PATH}/mine/lineage?version=9")).status_code == 404


async def test_a_version_is_signed_and_its_files_are_told(admin: httpx.AsyncClient) -> None:
    pytest.importorskip("cryptography", reason="`make` installs it")
    signed = (await admin.post(f"{PATH}/mine/versions/1/sign")).json()
    assert (len(signed["signed_by"]), signed["trusted"], list(signed["files"])) == (64, True, ["adapter.json"])
