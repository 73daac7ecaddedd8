"""`pileus keys` through a server; the data folder's own keys are tried in tests/acceptance/test_cli.py."""

from typing import Any

import pytest

from unit.cli.conftest import Pileus, Stub

PATH = "/admin/v1/keys"
KEY: dict[str, Any] = {
    "id": "key_1",
    "name": "laptop",
    "role": "user",
    "tenant": "default",
    "created_at": 1_700_000_000.0,
    "created_by": "system",
    "expires_at": None,
    "revoked_at": None,
    "token_budget": 500,
    "budget_micros": None,
    "lanes": ["on_demand", "batch"],
    "max_priority": 0,
    "weight": 1.0,
    "tokens_per_s": 0.0,
    "used_tokens": 12,
    "used_micros": 0,
}


def test_a_new_key_is_alone_on_standard_output(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", PATH, KEY | {"secret": "sk-pileus-new"}, 201)
    ran = pileus("keys", "create", "laptop", "--token-budget", "500", "--expires", "2030-01-02")
    assert ran.out == "sk-pileus-new\n"
    assert "laptop (user, key_1)" in ran.err
    assert stub.bodies == [
        {
            "name": "laptop",
            "role": "user",
            "tenant": "default",
            "token_budget": 500,
            "budget_micros": None,
            "expires_at": 1_893_542_400.0,
            "lanes": ["on_demand", "batch"],
            "max_priority": 0,
            "weight": 1.0,
            "tokens_per_s": 0.0,
        }
    ]


def test_a_key_is_made_with_the_rights_that_were_named(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", PATH, KEY | {"secret": "sk-pileus-new"}, 201)
    rights = ["--priority", "5", "--weight", "2.5", "--tokens-per-s", "40"]
    assert pileus("keys", "create", "news", "--lane", "on_demand", "--lane", "continuous", *rights).status == 0
    (wish,) = stub.bodies
    assert wish["lanes"] == ["on_demand", "continuous"]
    assert (wish["max_priority"], wish["weight"], wish["tokens_per_s"]) == (5, 2.5, 40.0)


@pytest.mark.parametrize(
    "wrong", [("--lane", "express"), ("--priority", "-1"), ("--priority", "101"), ("--tokens-per-s", "-1")]
)
def test_a_right_that_there_is_not_is_a_usage_error(pileus: Pileus, stub: Stub, wrong: tuple[str, str]) -> None:
    ran = pileus("keys", "create", "news", *wrong)
    assert ran.status == 2
    assert wrong[0] in ran.err
    assert stub.bodies == []


def test_keys_are_listed_with_what_they_used(pileus: Pileus, stub: Stub) -> None:
    stub.answer(
        "GET",
        PATH,
        {"data": [KEY, KEY | {"id": "key_2", "revoked_at": 1_700_000_001.0, "weight": 2.5, "tokens_per_s": 40.0}]},
    )
    lines = pileus("keys", "list").out.splitlines()
    assert lines[2].split() == [
        "key_1",
        "laptop",
        "user",
        "default",
        "2023-11-14",
        "-",
        "12",
        "of",
        "500",
        "on_demand,batch",
        "1",
        "active",
    ]
    assert lines[3].split()[-2:] == ["2.5+40/s", "revoked"]
    assert pileus("keys", "list", "--json").json()[0] == KEY


@pytest.mark.parametrize(("answer", "status"), [("n\n", 1), ("y\n", 0)])
def test_to_revoke_asks_first(pileus: Pileus, stub: Stub, answer: str, status: int) -> None:
    stub.answer("DELETE", f"{PATH}/key_1", KEY)
    assert pileus("keys", "revoke", "key_1", piped=answer).status == status
    assert len(stub.keys) == (0 if status else 1)


def test_yes_does_not_ask(pileus: Pileus, stub: Stub) -> None:
    stub.answer("DELETE", f"{PATH}/key_1", KEY)
    assert pileus("keys", "revoke", "key_1", "--yes").out == "key_1 is revoked.\n"


def test_a_revoked_key_is_told_to_programs_and_the_question_stays_out_of_it(pileus: Pileus, stub: Stub) -> None:
    revoked = KEY | {"revoked_at": 1_700_000_001.0}
    stub.answer("DELETE", f"{PATH}/key_1", revoked)
    assert pileus("keys", "revoke", "key_1", "--yes", "--json").json() == revoked
    asked = pileus("keys", "revoke", "key_1", "--json", piped="y\n")
    assert asked.json() == revoked
    assert "for good?" in asked.err
