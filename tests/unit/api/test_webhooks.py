"""`/v1/webhooks`: who is told, and who may say so."""

import httpx
import pytest

from unit.api.bench import Bench

PATH = "/v1/webhooks"
URL = "https://8.8.8.8/hook"  # an address needs no look-up


async def test_a_webhook_is_shown_with_its_secret_only_when_it_is_added(bench: Bench, admin: httpx.AsyncClient) -> None:
    added = await admin.post(PATH, json={"url": URL, "events": ["batch.failed"]})
    assert added.status_code == 201
    told = added.json()
    assert told["secret"].startswith("whsec_")
    shown = {name: value for name, value in told.items() if name != "secret"}
    assert (await admin.get(PATH)).json() == {"object": "list", "data": [shown]}
    assert shown["events"] == ["batch.failed"]
    assert shown["tenant"] == "default"
    assert (await admin.post(PATH, json={"url": URL})).json()["secret"] == told["secret"]
    gone = await admin.delete(f"{PATH}/{told['id']}")
    assert gone.json() == {"id": told["id"], "object": "webhook", "deleted": True}
    assert (await admin.get(PATH)).json()["data"] == []
    assert (await admin.delete(f"{PATH}/{told['id']}")).status_code == 404


async def test_what_was_done_to_webhooks_is_on_record(bench: Bench, admin: httpx.AsyncClient) -> None:
    told = (await admin.post(PATH, json={"url": URL})).json()
    await admin.delete(f"{PATH}/{told['id']}")
    events = (await admin.get("/admin/v1/audit")).json()["data"]
    assert [(each["action"], each["target"]) for each in events[:2]] == [
        ("webhook.remove", told["id"]),
        ("webhook.add", told["id"]),
    ]


@pytest.mark.parametrize("wish", [{"url": "http://127.0.0.1/"}, {"url": URL, "events": ["x"]}, {"url": URL, "x": 1}])
async def test_what_cannot_be_is_refused(admin: httpx.AsyncClient, wish: dict[str, object]) -> None:
    assert (await admin.post(PATH, json=wish)).status_code == 400


async def test_only_administrators_decide_who_is_told(client: httpx.AsyncClient) -> None:
    answers = [await client.post(PATH, json={"url": URL}), await client.get(PATH), await client.delete(f"{PATH}/wh_1")]
    assert [each.status_code for each in answers] == [403, 403, 403]


async def test_a_test_is_a_delivery_of_its_own(bench: Bench, admin: httpx.AsyncClient) -> None:
    webhook = (await admin.post(PATH, json={"url": URL})).json()["id"]
    sent = await admin.post(f"{PATH}/{webhook}/test", json={})
    assert sent.status_code == 202
    delivery = sent.json()
    assert (delivery["type"], delivery["state"], delivery["log"]) == ("webhook.test", "queued", [])
    [job] = await bench.services.jobs.lease("webhook", 1)
    await bench.services.jobs.fail(job.id, job.fence, "undelivered", "8.8.8.8 answered 500", retry=False)
    await bench.services.jobs.write_lines()
    shown = (await admin.get(f"{PATH}/{webhook}/deliveries/{delivery['id']}")).json()
    assert (shown["state"], shown["failures"]) == ("failed", 1)
    assert [each["text"] for each in shown["log"]] == ["8.8.8.8 answered 500"]
    assert (await admin.get(f"{PATH}/{webhook}/deliveries/job_1")).status_code == 404
