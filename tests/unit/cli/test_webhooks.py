"""`pileus webhooks` against a scripted server."""

from typing import Any

from unit.cli.conftest import Pileus, Stub

PATH = "/v1/webhooks"
HOOK: dict[str, Any] = {
    "id": "wh_1",
    "url": "https://example.com/hook",
    "events": ["batch.completed", "batch.failed"],
    "tenant": "acme",
    "created_at": 1_700_000_000,
}
DELIVERY: dict[str, Any] = {"id": "job_1", "state": "queued", "log": []}


def test_a_webhook_is_added_with_what_was_wished_and_its_secret_is_shown(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", PATH, HOOK | {"secret": "whsec_x"}, 201)
    ran = pileus(
        "webhooks", "add", HOOK["url"], "--event", "batch.completed", "--event", "batch.failed", "--tenant", "acme"
    )
    assert ran.out == "whsec_x\n"
    assert "wh_1 is told of batch.completed, batch.failed." in ran.err
    assert stub.bodies == [{"url": HOOK["url"], "events": ["batch.completed", "batch.failed"], "tenant": "acme"}]


def test_without_a_wish_it_is_told_of_everything(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", PATH, HOOK | {"secret": "whsec_x"}, 201)
    pileus("webhooks", "add", HOOK["url"])
    assert stub.bodies == [{"url": HOOK["url"], "tenant": None}]


def test_webhooks_are_listed(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", PATH, {"data": [HOOK]})
    ran = pileus("webhooks", "list")
    assert ran.out.splitlines()[-1].split() == [
        "wh_1",
        "acme",
        "2023-11-14",
        "https://example.com/hook",
        "batch.completed,",
        "batch.failed",
    ]


def test_a_webhook_is_removed_once_that_was_confirmed(pileus: Pileus, stub: Stub) -> None:
    stub.answer("DELETE", f"{PATH}/wh_1", {"id": "wh_1", "deleted": True})
    assert pileus("webhooks", "remove", "wh_1", "--yes").out == "wh_1 is removed.\n"
    assert stub.keys


def test_a_test_tells_what_the_receiver_said(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", f"{PATH}/wh_1/test", DELIVERY, 202)
    log = [{"at": 0.0, "text": "example.com answered 200 after 0.10 s"}]
    stub.answer("GET", f"{PATH}/wh_1/deliveries/job_1", DELIVERY | {"state": "succeeded", "log": log})
    ran = pileus("webhooks", "test", "wh_1")
    assert (ran.status, ran.out) == (0, "example.com answered 200 after 0.10 s\n")


def test_a_test_that_does_not_arrive_fails(pileus: Pileus, stub: Stub) -> None:
    stub.answer("POST", f"{PATH}/wh_1/test", DELIVERY, 202)
    log = [{"at": 0.0, "text": "example.com answered 500 after 0.10 s"}]
    stub.answer("GET", f"{PATH}/wh_1/deliveries/job_1", DELIVERY | {"state": "failed", "log": log})
    ran = pileus("webhooks", "test", "wh_1")
    assert (ran.status, ran.out) == (1, "")
    assert "example.com answered 500" in ran.err
