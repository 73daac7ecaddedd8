"""The registry over a real store and a real folder: what becomes a version, what is seen of it, what changes it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from made_versions import job, made, shelve
from pileus.core.errors import InvalidRequest, ModelNotFound, NotFound
from pileus.core.records import Principal
from pileus.models.lineage import Deployed
from pileus.models.registry import Parent, register_made
from pileus.models.versions import CardWish, Registry
from pileus.security.permission import ROLES, Role
from pileus.security.signing import Signer
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import AuditTable
from pileus.testing.clock import ManualClock

pytest.importorskip("cryptography", reason="`make` installs it")

OWNER = Principal("key_owner", "default", "admin", ROLES[Role.ADMIN])


@dataclass
class World:
    store: SqliteStore
    registry: Registry
    models_dir: Path

    def shelve(self, name: str, content: bytes = b"x", **more: str) -> str:
        return shelve(self.models_dir, name, {"adapter.json": content}, **more)

    def end(self, name: str, *results: Any, tenant: str = "default") -> None:
        ended = job(name, *results, tenant=tenant)
        self.store.write_blocking(lambda tx: register_made(tx, ended))

    def audit(self) -> list[tuple[str, str, str]]:
        rows = self.store.read_blocking(lambda tx: AuditTable().latest(tx, 100))
        return [(event.actor, event.action, event.target) for _, event in reversed(rows)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = SqliteStore.open(tmp_path)
    registry = Registry(store, tmp_path / "models" / "artefacts", Signer(b"s" * 32), ManualClock(1e9))
    yield World(store, registry, tmp_path / "models")
    store.close()


async def test_what_was_installed_becomes_a_version_at_the_next_look_and_once(world: World) -> None:
    sha256 = world.shelve("mine", licence="MIT")
    [model] = await world.registry.models(None)
    [version] = model.versions
    assert (version.model, version.number, version.artefact, version.sha256) == ("mine", 1, "mine", sha256)
    assert (version.stage, version.licence, version.installed, version.kind) == ("candidate", "MIT", True, "adapter")
    assert await world.registry.models(None) == [model]
    assert world.audit() == [("system", "model.adopt", "mine@1")]


async def test_other_contents_under_the_same_name_are_the_next_version(world: World) -> None:
    world.shelve("mine")
    await world.registry.models(None)
    shutil.rmtree(world.models_dir / "artefacts" / "mine")
    world.shelve("mine", b"other")
    model = await world.registry.model("mine", None)
    assert [(each.number, each.installed) for each in model.versions] == [(2, True), (1, False)]


async def test_an_artefact_may_be_a_version_of_a_model_of_another_name(world: World) -> None:
    world.shelve("mine")
    await world.registry.models(None)
    world.shelve("mine-2", b"other", model="mine")
    assert [each.artefact for each in (await world.registry.model("mine", None)).versions] == ["mine-2", "mine"]


async def test_a_job_that_ends_takes_over_what_was_found_lying_there_before(world: World) -> None:
    sha256 = world.shelve("tuned-1")
    [found] = await world.registry.models(None)
    world.end("train", made("tuned-1", sha256, model="tuned", loss=0.5))
    [model] = await world.registry.models(None)
    [version] = model.versions
    assert (version.model, version.number, version.job_id, version.figures) == ("tuned", 1, "job_train", {"loss": 0.5})
    assert version.id == found.versions[0].id


async def test_a_job_that_ends_twice_with_the_same_has_made_one_version(world: World) -> None:
    """It failed by the gate, was resumed, and came to the same end."""
    sha256 = world.shelve("tuned-1")
    for _ in range(2):
        world.end("train", made("tuned-1", sha256, model="tuned"))
    world.end("other", made("tuned-1", sha256, model="tuned"))
    [model] = await world.registry.models(None)
    assert [(each.number, each.job_id) for each in model.versions] == [(2, "job_other"), (1, "job_train")]


async def test_a_version_is_found_by_number_alias_and_as_the_latest(world: World) -> None:
    world.shelve("mine")
    await world.registry.models(None)
    world.shelve("mine-2", b"other", model="mine")
    await world.registry.set_alias("mine", "production", "1", OWNER, None)
    refs = {ref: (await world.registry.version("mine", ref, None)).number for ref in ("1", "2", "production", "latest")}
    assert refs == {"1": 1, "2": 2, "production": 1, "latest": 2}
    with pytest.raises(NotFound, match="no version and no alias '3'; its latest version is 2"):
        await world.registry.version("mine", "3", None)
    with pytest.raises(ModelNotFound):
        await world.registry.version("yours", "1", None)


async def test_an_alias_moves_and_goes_and_each_is_on_record_with_its_author(world: World) -> None:
    world.shelve("mine")
    await world.registry.models(None)
    world.shelve("mine-2", b"other", model="mine")
    await world.registry.set_alias("mine", "best", "1", OWNER, None)
    moved = await world.registry.set_alias("mine", "best", "2", OWNER, None)
    assert moved.aliases == ["best"]
    assert (await world.registry.version("mine", "1", None)).aliases == []
    await world.registry.drop_alias("mine", "best", OWNER, None)
    with pytest.raises(NotFound, match="no alias 'best'"):
        await world.registry.drop_alias("mine", "best", OWNER, None)
    assert [row for row in world.audit() if row[0] == "key_owner"] == [
        ("key_owner", "model.alias", "mine@best to 1"),
        ("key_owner", "model.alias", "mine@best to 2"),
        ("key_owner", "model.alias_drop", "mine@best"),
    ]


@pytest.mark.parametrize("alias", ["", "7", "latest", "a b", "a@b", "../x"])
async def test_an_alias_that_could_be_taken_for_something_else_is_refused(world: World, alias: str) -> None:
    world.shelve("mine")
    with pytest.raises(InvalidRequest) as refused:
        await world.registry.set_alias("mine", alias, "1", OWNER, None)
    assert refused.value.param == "alias"


async def test_what_an_alias_leads_to_does_not_retire_and_what_is_retired_gets_no_alias(world: World) -> None:
    world.shelve("mine")
    await world.registry.set_alias("mine", "production", "1", OWNER, None)
    with pytest.raises(InvalidRequest, match="the alias production leads to version 1"):
        await world.registry.set_stage("mine", "1", "retired", OWNER, None)
    await world.registry.drop_alias("mine", "production", OWNER, None)
    assert (await world.registry.set_stage("mine", "1", "retired", OWNER, None)).stage == "retired"
    with pytest.raises(InvalidRequest, match="retired"):
        await world.registry.set_alias("mine", "production", "1", OWNER, None)
    with pytest.raises(InvalidRequest, match="candidate, staging, production, retired"):
        await world.registry.set_stage("mine", "1", "live", OWNER, None)


async def test_a_tenant_sees_its_own_versions_and_those_of_everybody(world: World) -> None:
    world.shelve("base")
    await world.registry.models(None)
    for tenant in ("rain", "wind"):
        sha256 = world.shelve(f"{tenant}-1", tenant.encode())
        parent = Parent("artefact", "base", "fine-tuned from")
        world.end(tenant, made(f"{tenant}-1", sha256, model=tenant, parents=(parent,)), tenant=tenant)
    assert [model.name for model in await world.registry.models("rain")] == ["base", "rain"]
    with pytest.raises(ModelNotFound):
        await world.registry.version("wind", "1", "rain")
    graph = await world.registry.lineage("base", "", "rain", [])
    assert {node.label for node in graph.nodes if node.kind in ("version", "job")} == {"base 1", "rain 1", "job_rain"}
    assert len([node for node in (await world.registry.lineage("base", "", None, [])).nodes if node.kind == "job"]) == 2


async def test_what_states_no_licence_has_those_of_its_parents(world: World) -> None:
    for name, licence in (("a", "MIT"), ("b", "Apache-2.0"), ("c", "MIT")):
        world.shelve(name, name.encode(), licence=licence)
    await world.registry.models(None)
    parents = tuple(Parent("artefact", name, "distilled from") for name in ("a", "b", "c", "unknown"))
    world.end("t", made("d", "0" * 64, model="d", parents=parents))
    world.end("u", made("e", "1" * 64, model="e", parents=parents, licence="GPL-3.0"))
    assert (await world.registry.version("d", "1", None)).licence == "MIT AND Apache-2.0"
    assert (await world.registry.version("e", "1", None)).licence == "GPL-3.0"


async def test_lineage_leads_from_the_data_to_the_deployment(world: World) -> None:
    first = world.shelve("base")
    data = Parent("dataset", "corpus", "trained on")
    world.end("train", made("base", first, model="base", parents=(data,)))
    second = world.shelve("base-int4", b"small")
    world.end(
        "compress", made("base-int4", second, model="small", parents=(Parent("artefact", "base", "compressed from"),))
    )
    other = world.shelve("other", b"apart")
    world.end("other", made("other", other, model="other"))
    graph = await world.registry.lineage("small", "1", None, [Deployed("chat", "base-int4"), Deployed("x", "other")])
    labels = {f"{node.kind}:{node.id}": node.label for node in graph.nodes}
    assert {(labels[edge.child], edge.relation, labels[edge.parent]) for edge in graph.edges} == {
        ("chat", "serves", "small 1"),
        ("small 1", "made by", "job_compress"),
        ("small 1", "compressed from", "base 1"),
        ("base 1", "made by", "job_train"),
        ("base 1", "trained on", "corpus"),
    }
    order = [node.label for node in graph.nodes]
    assert order.index("corpus") < order.index("base 1") < order.index("small 1") < order.index("chat")
    assert "other 1" not in order


async def test_two_versions_differ_by_file_licence_figure_and_parent(world: World) -> None:
    first = shelve(world.models_dir, "a", {"one": b"1", "two": b"2", "gone": b"3"}, licence="MIT")
    second = shelve(world.models_dir, "b", {"one": b"1", "two": b"22", "new": b"4"}, licence="MIT")
    world.end("a", made("a", first, model="m", loss=2.0))
    world.end("b", made("b", second, model="m", parents=(Parent("dataset", "d", "trained on"),), loss=1.0, f1=0.5))
    found = await world.registry.diff(("m", "1"), ("m", "2"), None)
    assert not found.same
    assert found.files is not None
    assert [(each.name, each.before is None, each.after is None) for each in found.files] == [
        ("gone", False, True),
        ("new", True, False),
        ("two", False, False),
    ]
    assert found.files_same == ["one"]
    assert [(each.name, each.before, each.after) for each in found.figures] == [("f1", None, 0.5), ("loss", 2.0, 1.0)]
    assert found.parents_after == ["made by job job_b", "trained on dataset d"]
    shutil.rmtree(world.models_dir / "artefacts" / "a")
    assert (await world.registry.diff(("m", "1"), ("m", "2"), None)).files is None


async def test_a_card_is_a_page_and_changing_it_is_on_record(world: World) -> None:
    sha256 = world.shelve("mine-1")
    world.end("t", made("mine-1", sha256, model="mine", parents=(Parent("dataset", "d", "trained on"),), loss=0.25))
    wish = CardWish(intended_use="Clouds.", limits="No | storms.", licence="MIT")
    await world.registry.describe("mine", "1", wish, OWNER, None)
    page = await world.registry.card("mine", "latest", None)
    for line in ("# mine, version 1", "| Licence | MIT |", "Clouds.", "| loss | 0.25 |", "- trained on dataset `d`"):
        assert line in page.splitlines()
    assert world.audit()[-1] == ("key_owner", "model.describe", "mine@1 card")


async def test_a_signature_is_of_the_artefact_and_the_card_and_goes_with_a_change(world: World) -> None:
    world.shelve("mine")
    signed = await world.registry.sign("mine", "1", OWNER, None)
    assert (signed.signed_by, signed.trusted) == (Signer(b"s" * 32).public_key, True)
    folder = world.models_dir / "artefacts" / "mine"
    assert json.loads((folder / "signature.json").read_bytes())["key"] == signed.signed_by
    changed = await world.registry.describe("mine", "1", CardWish(notes="new"), OWNER, None)
    assert (changed.signed_by, changed.trusted) == ("", False)
    assert not (folder / "signature.json").exists()


async def test_what_came_signed_is_trusted_only_where_its_key_is(world: World) -> None:
    world.shelve("mine")
    await world.registry.sign("mine", "1", OWNER, None)
    (world.models_dir / "elsewhere").mkdir()
    store = SqliteStore.open(world.models_dir / "elsewhere")
    try:
        artefacts, key = world.models_dir / "artefacts", Signer(b"s" * 32).public_key
        stranger = Registry(store, artefacts, Signer(b"o" * 32), ManualClock(1e9))
        assert not (await stranger.version("mine", "1", None)).trusted
        friend = Registry(store, artefacts, Signer(b"o" * 32), ManualClock(1e9), (key,))
        assert (await friend.version("mine", "1", None)).trusted
    finally:
        store.close()


async def test_what_is_not_installed_is_not_signed(world: World) -> None:
    world.shelve("mine")
    await world.registry.models(None)
    shutil.rmtree(world.models_dir / "artefacts" / "mine")
    with pytest.raises(InvalidRequest, match="is not installed here"):
        await world.registry.sign("mine", "1", OWNER, None)
