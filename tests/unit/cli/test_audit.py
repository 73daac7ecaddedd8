"""`pileus audit`."""

from typing import Any

from unit.cli.conftest import Pileus, Stub

PATH = "/admin/v1/audit"
REFUSED: dict[str, Any] = {
    "at": 1_700_000_000.0,
    "actor": "key_1",
    "tenant": "default",
    "action": "request.refuse",
    "target": "GET /admin/v1/keys",
    "outcome": "permission_denied",
    "request_id": "req_1",
    "sequence": 2,
}
STARTED = REFUSED | {"actor": "system", "tenant": "", "action": "server.start", "target": "here", "outcome": "ok"}


def test_the_newest_events_are_shown_in_utc(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", f"{PATH}?limit=50", {"data": [REFUSED, STARTED]})
    first, second = pileus("audit").out.splitlines()[2:]
    assert first.split() == [
        *("2023-11-14", "22:13:20", "key_1", "default", "request.refuse"),
        *("GET", "/admin/v1/keys", "permission_denied", "req_1"),
    ]
    assert second.split()[2:5] == ["system", "-", "server.start"]


def test_one_action_can_be_asked_for(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", f"{PATH}?limit=5&action=a%26b", {"data": [REFUSED]})
    assert pileus("audit", "--action", "a&b", "--limit", "5", "--json").json() == [REFUSED]
