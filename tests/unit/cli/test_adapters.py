"""`pileus adapters` against a scripted server."""

from typing import Any

from unit.cli.conftest import Pileus, Stub

PATH = "/admin/v1/deployments/chat/adapters"
ADAPTER: dict[str, Any] = {
    "name": "support",
    "model": "chat:support",
    "artefact": "support-v1",
    "tenant": "",
    "created_at": 1_700_000_000,
    "created_by": "key_1",
    "served": True,
    "error": "",
}


def test_an_adapter_is_added_for_whom_was_wished(pileus: Pileus, stub: Stub) -> None:
    stub.answer("PUT", f"{PATH}/support", ADAPTER)
    ran = pileus("adapters", "add", "chat", "support", "support-v1", "--tenant", "acme")
    assert ran.out == "chat:support is served with support-v1.\n"
    assert stub.bodies == [{"artefact": "support-v1", "tenant": "acme"}]


def test_adapters_are_listed_with_what_is_wrong(pileus: Pileus, stub: Stub) -> None:
    broken = ADAPTER | {"model": "chat:odd", "tenant": "acme", "served": False, "error": "it does not fit"}
    stub.answer("GET", PATH, {"data": [ADAPTER, broken]})
    lines = pileus("adapters", "list", "chat").out.splitlines()
    assert lines[-2].split() == ["chat:support", "support-v1", "everybody", "yes"]
    assert lines[-1].split() == ["chat:odd", "support-v1", "acme", "it", "does", "not", "fit"]


def test_an_adapter_is_removed(pileus: Pileus, stub: Stub) -> None:
    stub.answer("DELETE", f"{PATH}/support", {"name": "support", "removed": True})
    assert pileus("adapters", "remove", "chat", "support", "--yes").out == "chat:support is not served any more.\n"
