"""Models in the console, as an administrator, an operator and a user see them: a real Chromium and a real server, with
versions as jobs would have left them, and a deployment of one of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import Connection

from acceptance.browser import CHROMIUM, Visit, visit
from acceptance.process import Server, running_server
from made_versions import job, made, shelve
from pileus.models.registry import Parent, register_made
from pileus.store.sqlite import SqliteStore

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

# The fake engine's model: so what is called `fake` is what the deployment serves.
CONFIG = """
[[deployment]]
name = "chat"
model = "fake"
engine = "fake"
"""
AUDIT = Path(__file__).with_name("console_audit.js").read_text()
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("models")
    base = shelve(data / "models", "base-1", {"adapter.json": b"1"})
    small = shelve(data / "models", "fake", {"adapter.json": b"2"})

    def seed(tx: Connection) -> None:
        corpus = Parent("dataset", "corpus", "trained on")
        register_made(tx, job("train", made("base-1", base, model="base", licence="MIT", parents=(corpus,), loss=2.5)))
        parents = (Parent("artefact", "base-1", "compressed from"),)
        register_made(tx, job("compress", made("fake", small, model="small", parents=parents)))
        register_made(tx, job("hostile", made("gone", "0" * 64, model=HOSTILE)))

    store = SqliteStore.open(data)
    store.write_blocking(seed)
    store.close()
    (data / "pileus.toml").write_text(CONFIG)
    with running_server(data, "--config", str(data / "pileus.toml")) as server:
        yield server


@pytest.fixture
def owner(browser: Browser, server: Server) -> Iterator[Visit]:
    """Someone signed in with the first admin key, who looks at the models."""
    with visit(browser, server.base_url) as owner:
        owner.sign_in(server.admin_key)
        owner.show("Models")
        expect(owner.page.locator(".versions tbody tr")).to_have_count(3)
        yield owner
    assert owner.faults == []


def look_at(page: Page, name: str) -> Locator:
    page.get_by_role("button", name=f"Details of {name}").click()
    details = page.locator(".version-details")
    expect(details.locator("h2")).to_have_text(name)
    return details


def test_a_version_is_shown_with_its_card_and_what_it_came_of(owner: Visit) -> None:
    page = owner.page
    details = look_at(page, "small@1")
    nodes = details.locator(".lineage-node")
    expect(nodes).to_have_count(6)  # corpus, two jobs, two versions, the deployment
    boxes = {node.locator("text").last.text_content(): node.bounding_box() for node in nodes.all()}
    corpus, base, small, chat = (boxes[label] for label in ("corpus", "base 1", "small 1", "chat"))
    assert corpus and base and small and chat  # noqa: PT018
    assert corpus["x"] < base["x"] < small["x"] < chat["x"]
    expect(details.locator(".lineage-line")).to_have_count(5)
    expect(details.locator(".lineage li")).to_contain_text(["Version small 1: compressed from Version base 1"])
    assert page.evaluate(AUDIT) == []
    details = look_at(page, "base@1")
    expect(details).to_contain_text("MIT")
    expect(details.locator("dl div", has_text="loss")).to_contain_text("2.5")
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(page.get_by_role("button", name="Details of base@1")).to_be_focused()


def test_stage_alias_and_signature_are_changed_and_shown(owner: Visit) -> None:
    page = owner.page
    details = look_at(page, "base@1")
    details.get_by_label("Stage").select_option("production")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(details.get_by_label("Stage")).to_have_value("candidate")
    details.get_by_label("Stage").select_option("production")
    page.get_by_role("dialog").get_by_role("button", name="Change the stage").click()
    row = page.locator(".card", has=page.get_by_role("heading", name="base")).locator("tbody tr").first
    expect(row.locator(".state")).to_have_text("Production")
    details.get_by_role("button", name="Add an alias").click()
    page.get_by_role("textbox", name="Alias").fill("7")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("no number")
    page.get_by_role("textbox", name="Alias").fill("stable")
    page.keyboard.press("Enter")
    expect(row.locator(".chip")).to_have_text(["stable"])
    expect(details).to_contain_text("not signed")
    details.get_by_role("button", name="Sign").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign").click()
    expect(details).to_contain_text("good, by ")
    owner.faults = [fault for fault in owner.faults if "400" not in fault]  # Chromium reports the refusal itself


def test_a_hostile_name_stays_text(owner: Visit) -> None:
    page = owner.page
    expect(page.locator(".model-head h2", has_text="<img")).to_be_visible()
    expect(page.locator("main img")).to_have_count(0)
    expect(page).to_have_title("Models · Pileus")


def test_an_operator_and_a_user_look_and_change_nothing(browser: Browser, server: Server, owner: Visit) -> None:
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    for role, count in (("operator", 3), ("user", 0)):
        made_key = httpx.post(
            f"{server.base_url}/admin/v1/keys", headers=headers, json={"name": role, "role": role, "tenant": "rain"}
        )
        with visit(browser, server.base_url) as guest:
            guest.sign_in(made_key.json()["secret"])
            guest.show("Models")
            if count:
                expect(look_at(guest.page, "base@1").get_by_role("group")).to_have_count(0)
            else:
                expect(guest.page.locator(".empty")).to_contain_text("pileus models import")
            assert guest.page.evaluate(AUDIT) == []
            assert guest.faults == []


@pytest.mark.parametrize("width", [360, 650, 725, 768, 2560])
def test_nothing_scrolls_sideways_with_the_details_open(browser: Browser, server: Server, width: int) -> None:
    with visit(browser, server.base_url, width=width) as guest:
        guest.sign_in(server.admin_key)
        guest.show("Models")
        look_at(guest.page, "small@1")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert guest.page.evaluate(overflow) == 0


def test_in_the_dark_and_in_chinese_it_reads_as_well(browser: Browser, server: Server) -> None:
    with visit(browser, server.base_url, theme="dark") as guest:
        guest.sign_in(server.admin_key)
        guest.show("Models")
        look_at(guest.page, "small@1")
        assert guest.page.evaluate(AUDIT) == []
        guest.page.get_by_role("button", name="中").click()
        expect(guest.page.locator("h1")).to_have_text("模型")
        guest.page.get_by_role("button", name="small@1 的详情").click()
        expect(guest.page.locator(".lineage-node")).to_have_count(6)
        assert guest.page.evaluate(AUDIT) == []
        words = guest.page.locator("body").inner_text()
        assert not re.findall(r"\bmodels?\.[a-z_]+", words)
        assert guest.faults == []
