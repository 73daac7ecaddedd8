"""`pileus ps` and `pileus status`."""

from typing import Any

from unit.cli.conftest import Pileus, Stub

REPLICA: dict[str, Any] = {
    "id": "small/0",
    "state": "ready",
    "pid": 4242,
    "epoch": 1,
    "restarts": 2,
    "last_error": "",
    "running": 3,
    "waiting": 0,
    "slots": 64,
    "kv_blocks": 200,
    "kv_blocks_used": 50,
    "kv_blocks_cached": 10,
    "tokens_per_s": 151.6,
    "prompt_tokens": 1,
    "generated_tokens": 1,
    "prefix_query_tokens": 100,
    "prefix_hit_tokens": 25,
    "step_ms": 9.0,
}
STATUS = {
    "version": "0.1.0",
    "uptime_s": 723.0,
    "deployments": [
        {
            "name": "small",
            "model": "smollm2",
            "engine": "native",
            "aliases": ["default"],
            "waiting": 7,
            "replicas": [REPLICA, REPLICA | {"id": "small/1", "state": "starting", "last_error": "exit status 1"}],
        }
    ],
}


def test_ps_lists_every_replica(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", "/admin/v1/status", STATUS)
    first, second = pileus("ps").out.splitlines()[2:]
    assert first.split() == ["small/0", "ready", "4242", "3/64", "25%", "152", "2", "-"]
    assert second.endswith("exit status 1")
    assert [row["id"] for row in pileus("ps", "--json").json()] == ["small/0", "small/1"]


def test_status_sums_a_deployments_replicas(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", "/admin/v1/status", STATUS)
    first, *_, last = pileus("status").out.splitlines()
    assert first == f"Pileus 0.1.0 at {stub.url}, up for 12m 03s"
    assert last.split() == ["small,", "default", "smollm2", "native", "1/2", "6", "7", "303", "25%"]
    assert pileus("status", "--json").json() == STATUS
