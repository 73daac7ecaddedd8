"""Deployments in the console, as an administrator changes them and as others see them: a real Chromium and a real
server, with replicas of the fake engine."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from acceptance.browser import CHROMIUM, Visit, visit
from acceptance.process import Server, running_server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

CONFIG = """
[[deployment]]
name = "first"
model = "fake"
engine = "fake"

[[deployment]]
name = "sleeper"
model = "fake"
engine = "fake"
replicas = 0
"""
AUDIT = Path(__file__).with_name("console_audit.js").read_text()
START_MS = 30_000  # a replica's, on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("console")
    (data / "pileus.toml").write_text(CONFIG)
    with running_server(data, "--config", str(data / "pileus.toml")) as server:
        yield server


@pytest.fixture
def owner(browser: Browser, server: Server) -> Iterator[Visit]:
    """Someone signed in with the first admin key, who looks at the deployments."""
    with visit(browser, server.base_url) as owner:
        owner.sign_in(server.admin_key)
        owner.show("Deployments")
        yield owner
    assert owner.faults == []


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers) as client:
        yield client


def card(page: Page, name: str) -> Locator:
    return page.locator(".deployment", has=page.get_by_role("heading", name=name, exact=True))


def events(page: Page) -> Locator:
    return page.locator(".timeline li")


def replica(page: Page, name: str) -> Locator:
    return page.locator(".replicas tbody tr", has_text=name)


def pid_of(admin: httpx.Client, server: Server, name: str) -> int:
    """A replica's process, which must be one that this server started."""
    found = admin.get(f"/admin/v1/deployments/{name.partition('/')[0]}").json()["replicas"]
    [pid] = [each["pid"] for each in found if each["id"] == name]
    assert pid in server.children()
    return int(pid)


def test_a_model_is_deployed_scaled_survives_a_kill_and_is_undeployed_by_hand(
    owner: Visit, server: Server, admin: httpx.Client
) -> None:
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    page.get_by_role("button", name="Deploy a model").press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type("chat")
    page.get_by_label("Model", exact=True).fill("fake")
    page.get_by_label("Engine", exact=True).fill("fake")
    page.locator("summary").press("Enter")
    page.get_by_label("Aliases").fill("talk, gossip")
    page.get_by_label("Engine options").fill("slots = 3")
    assert page.evaluate(AUDIT) == []
    page.get_by_label("Engine", exact=True).press("Enter")
    expect(dialog).to_have_count(0)
    expect(replica(page, "chat/0")).to_contain_text("Ready", timeout=START_MS)
    expect(replica(page, "chat/0")).to_contain_text("0 of 3")
    expect(card(page, "chat").locator(".chip")).to_have_text(["talk", "gossip"])

    card(page, "chat").get_by_role("button", name="Scale").click()
    page.get_by_label("Replicas").fill("2")
    page.keyboard.press("Enter")
    expect(replica(page, "chat/1")).to_contain_text("Ready", timeout=START_MS)
    expect(events(page).filter(has_text="1 → 2 replicas · by hand · key “admin”")).to_have_count(1)
    expect(page.locator("#announcer")).to_have_text("Scale chat: done.")

    os.kill(pid_of(admin, server, "chat/1"), signal.SIGKILL)
    crashed = events(page).filter(has_text="chat/1").filter(has_text="crashed")
    expect(crashed).to_contain_text("it was killed by SIGKILL", timeout=START_MS)
    expect(events(page).filter(has_text="chat/1").filter(has_text="restarted")).to_have_count(1, timeout=START_MS)
    expect(events(page).filter(has_text="chat/1").filter(has_text="ready")).to_have_count(2, timeout=START_MS)
    assert page.evaluate(AUDIT) == []

    card(page, "chat").get_by_role("button", name="Undeploy").click()
    dialog.get_by_role("button", name="Undeploy").click()
    expect(card(page, "chat")).to_have_count(0, timeout=START_MS)
    expect(events(page).filter(has_text="undeployed")).to_have_count(1)
    page.get_by_label("Events of").select_option("chat")
    expect(events(page).filter(has_text="first")).to_have_count(0)
    expect(events(page).filter(has_text="chat/1").filter(has_text="crashed")).to_have_count(1)


def test_what_happened_is_marked_on_the_chart_and_read_by_the_arrow_keys(owner: Visit, admin: httpx.Client) -> None:
    admin.post("/admin/v1/deployments/first/restart")
    expect(events(owner.page).filter(has_text="rolling restart ended")).to_have_count(1, timeout=START_MS)
    owner.show("Overview")
    page = owner.page
    expect(page.locator(".tokens .chart-mark").first).to_be_attached()
    expect(events(page).filter(has_text="rolling restart ended")).to_have_count(1)
    expect(page.locator(".strip a", has_text="first")).to_contain_text("1 of 1 ready")
    expect(page.locator(".strip a", has_text="sleeper")).to_contain_text("asleep")
    chart = page.get_by_role("img", name=re.compile("^Throughput"))
    chart.focus()
    page.keyboard.press("End")
    for _ in range(60):
        if "first rolling restart ended" in (page.locator("#announcer").text_content() or ""):
            break
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#announcer")).to_contain_text("first rolling restart ended")
    expect(page.locator(".tokens .chart-readout")).to_contain_text("first rolling restart ended")


def test_a_refusal_is_shown_whole_and_the_dialog_stays(owner: Visit) -> None:
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    arithmetic = (
        "chat does not fit: 2 x (9.00 GB of weights + 1.00 GB of KV cache) = 20.00 GB, and 3.00 GB are available"
    )
    error = {"error": {"message": arithmetic, "type": "invalid_request_error", "param": None, "code": None}}
    page.route("**/admin/v1/deployments/chat", lambda route: route.fulfill(status=400, json=error))
    page.get_by_role("button", name="Deploy a model").click()
    page.get_by_label("Name", exact=True).fill("chat")
    page.get_by_label("Model", exact=True).fill("fake")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text(arithmetic)
    expect(dialog.get_by_role("alert")).to_be_in_viewport(ratio=1)
    page.unroute("**/admin/v1/deployments/chat")
    page.get_by_label("Engine", exact=True).fill("fale")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("there is no engine 'fale'; did you mean `fake`?")
    page.locator("summary").click()
    page.get_by_label("Engine options").fill("slots")
    dialog.get_by_role("button", name="Deploy").click()
    expect(dialog.get_by_role("alert")).to_have_text("“slots” is not NAME = VALUE.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Deploy a model")).to_be_focused()
    owner.faults = [fault for fault in owner.faults if "400" not in fault]


def test_an_act_that_fails_says_why_on_its_deployment(owner: Visit, admin: httpx.Client) -> None:
    page = owner.page
    mute = {"faults": [{"kind": "refuse", "prompt_token": 1}]}  # with which no replica proves that it can generate
    wish = {"name": "bad", "model": "fake", "engine": "fake", "options": mute}
    admin.put("/admin/v1/deployments/bad", json=wish)
    expect(card(page, "bad").get_by_role("progressbar", name="Deploying")).to_be_visible()
    assert page.evaluate(AUDIT) == []
    complaint = card(page, "bad").locator(".complaint")
    expect(complaint).to_have_text(re.compile("^deploy failed: bad does not start: "), timeout=START_MS)
    expect(replica(page, "bad/0")).to_contain_text("Crash loop")
    expect(events(page).filter(has_text="bad/0").filter(has_text="given up, killed")).to_have_count(5)
    expect(events(page).filter(has_text="deploy failed")).to_contain_text("bad does not start: ")
    assert page.evaluate(AUDIT) == []
    admin.delete("/admin/v1/deployments/bad")
    expect(card(page, "bad")).to_have_count(0, timeout=START_MS)


def test_the_log_of_a_replica_is_a_button_away(owner: Visit) -> None:
    page = owner.page
    page.route(
        "**/admin/v1/deployments/first/logs?lines=200",
        lambda route: route.fulfill(json={"data": [{"replica": name, "lines": ["up", "<b>"]}]}),
    )
    log = replica(page, "first/").get_by_role("button")
    name = (log.get_attribute("aria-label") or "").removeprefix("Log of ")
    log.press("Enter")
    expect(page.get_by_role("region", name=f"Log of {name}")).to_have_text("up\n<b>")
    assert page.evaluate(AUDIT) == []
    page.get_by_role("button", name="Done").click()
    expect(log).to_be_focused()


def test_an_operator_looks_and_does_not_touch(browser: Browser, server: Server, admin: httpx.Client) -> None:
    secret = admin.post("/admin/v1/keys", json={"name": "watch", "role": "operator"}).json()["secret"]
    with visit(browser, server.base_url) as watcher:
        watcher.sign_in(secret)
        watcher.show("Deployments")
        page = watcher.page
        expect(card(page, "first")).to_contain_text("1 of 1 ready")
        expect(page.get_by_role("button", name=re.compile("Deploy|Scale|Restart"))).to_have_count(0)
        expect(replica(page, "first/").get_by_role("button", name=re.compile("^Log of"))).to_be_visible()
        assert watcher.faults == []


def test_it_speaks_chinese(owner: Visit) -> None:
    page = owner.page
    page.get_by_role("button", name="中").click()
    expect(page.locator("h1")).to_have_text("部署")
    expect(card(page, "sleeper")).to_contain_text("休眠中，下一个请求会将其唤醒。")
    expect(events(page).filter(has_text="就绪").first).to_be_visible()
    card(page, "first").get_by_role("button", name="扩缩容").click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("扩缩容“first”")
    assert page.evaluate(AUDIT) == []
    words = page.locator("body").inner_text()
    assert not re.findall(r"\b(?:act|event|cause|stage|deploy|deployment|replica|state)\.[a-z_]+", words)


def test_what_the_form_does_not_ask_for_stays_as_it_is_when_a_deployment_is_changed(
    owner: Visit, admin: httpx.Client
) -> None:
    page, path = owner.page, "/admin/v1/deployments/texts"
    wish = {"name": "texts", "model": "fake-encoder", "long_texts": "segments"}
    assert admin.put(path, json=wish).status_code == 202
    expect(replica(page, "texts/0")).to_contain_text("Ready", timeout=START_MS)
    page.get_by_role("button", name="Deploy a model").click()
    page.get_by_label("Name", exact=True).fill("texts")
    page.get_by_label("Model", exact=True).fill("fake-encoder")
    page.locator("summary").press("Enter")
    page.get_by_label("Aliases").fill("vectors")
    page.get_by_label("Model", exact=True).press("Enter")
    expect(card(page, "texts").locator(".chip")).to_have_text(["vectors"], timeout=START_MS)
    assert admin.get(path).json()["long_texts"] == "segments"
    assert admin.delete(path).status_code == 202
    expect(card(page, "texts")).to_have_count(0, timeout=START_MS)
