"""`pileus deploy`, `undeploy`, `scale`, `restart` and `logs` against a scripted server."""

from typing import Any

import pytest

from unit.cli.conftest import Pileus, Stub

PATH = "/admin/v1/deployments/chat"
ACT: dict[str, Any] = {"kind": "scale", "stage": "scaling", "done": 2, "total": 2, "ended": True, "error": ""}
CHAT: dict[str, Any] = {"name": "chat", "model": "smollm2", "desired": 2, "ready": 2, "act": ACT}


def test_a_deployment_is_asked_for_as_the_settings_would_say_it(pileus: Pileus, stub: Stub) -> None:
    stub.answer("PUT", PATH, {"name": "chat", "act": ACT}, 202)
    stub.answer("GET", PATH, CHAT)
    ran = pileus(
        *("deploy", "chat", "smollm2", "--replicas", "2", "--max", "4", "--alias", "default"),
        *("-o", "max_sequences=32", "-o", "kv_precision=u8"),
    )
    assert ran.out == "chat serves smollm2 with 2 of 2 replicas.\n"
    assert "Scaling chat ..." in ran.err
    assert stub.bodies == [
        {
            "name": "chat",
            "model": "smollm2",
            "engine": "auto",
            "replicas": 2,
            "min_replicas": None,
            "max_replicas": 4,
            "aliases": ["default"],
            "long_texts": "refuse",
            "options": {"max_sequences": 32, "kv_precision": "u8"},
        }
    ]


def test_an_option_needs_a_value(pileus: Pileus, stub: Stub) -> None:
    ran = pileus("deploy", "chat", "smollm2", "-o", "max_sequences")
    assert ran.status == 2
    assert "NAME=VALUE" in ran.err


def test_scale_and_restart_tell_what_there_is_then(pileus: Pileus, stub: Stub) -> None:
    stub.answer("PATCH", PATH, {"name": "chat", "act": ACT}, 202)
    stub.answer("POST", f"{PATH}/restart", {"name": "chat", "act": ACT}, 202)
    stub.answer("GET", PATH, CHAT)
    assert pileus("scale", "chat", "2", "--min", "0").out == "chat has 2 of 2 replicas.\n"
    assert stub.bodies == [{"replicas": 2, "min_replicas": 0, "max_replicas": None}]
    assert pileus("restart", "chat").out == "chat has new replicas: 2 of 2.\n"
    assert pileus("restart", "chat", "--json").json() == CHAT


def test_why_an_act_failed_is_told_on_one_line(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", f"{PATH}/restart", {"name": "chat", "act": ACT}, 202)
    stub.answer("GET", PATH, CHAT | {"act": ACT | {"error": "chat does not start: no weights"}})
    ran = pileus("restart", "chat")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[-1] == "pileus: chat does not start: no weights"


def test_a_refusal_is_told_as_the_server_puts_it(pileus: Pileus, stub: Stub) -> None:
    stub.refuse("PATCH", PATH, 400, "chat does not fit: 9 GB, and 1 GB of memory are available")
    assert pileus("scale", "chat", "9").err == "pileus: chat does not fit: 9 GB, and 1 GB of memory are available\n"


@pytest.mark.parametrize(("answer", "status"), [("n\n", 1), ("y\n", 0)])
def test_undeploy_asks_first_and_waits_until_it_is_gone(pileus: Pileus, stub: Stub, answer: str, status: int) -> None:
    stub.answer("DELETE", PATH, {"name": "chat", "act": ACT, "note": "the settings name it"}, 202)
    stub.refuse("GET", PATH, 404, "there is no deployment 'chat'")
    ran = pileus("undeploy", "chat", piped=answer)
    assert ran.status == status
    assert ("chat is undeployed." in ran.out) == (status == 0)
    assert ("Note: the settings name it." in ran.err) == (status == 0)
    assert len(stub.keys) == (0 if status else 2)


def test_undeploy_is_refused_for_a_public_name_unless_it_is_forced(pileus: Pileus, stub: Stub) -> None:
    stub.refuse("DELETE", PATH, 409, "the public name helper leads to chat")
    stub.answer("DELETE", f"{PATH}?force=true", {"name": "chat", "act": ACT}, 202)
    stub.refuse("GET", PATH, 404, "there is no deployment 'chat'")
    ran = pileus("undeploy", "chat", "--yes")
    assert (ran.status, ran.err) == (1, "pileus: the public name helper leads to chat\n")
    assert pileus("undeploy", "chat", "--yes", "--force").out == "chat is undeployed.\n"


def test_logs_are_of_all_replicas_or_of_one(pileus: Pileus, stub: Stub) -> None:
    data = [{"replica": "chat/0", "lines": ["a", "b"]}, {"replica": "chat/1", "lines": ["c"]}]
    stub.answer("GET", f"{PATH}/logs?lines=100", {"data": data})
    assert pileus("logs", "chat").out == "chat/0  a\nchat/0  b\nchat/1  c\n"
    assert pileus("logs", "chat/0").out == "a\nb\n"
    assert pileus("logs", "chat", "--json").json() == data
    assert pileus("logs", "chat/7").err == "pileus: there is no replica chat/7; there is: chat/0, chat/1\n"
