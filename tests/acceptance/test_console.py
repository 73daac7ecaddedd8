"""The console as people meet it: a real Chromium, a real server, a real model."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from acceptance.browser import CHROMIUM, Visit, visit
from acceptance.process import Server
from pileus.batch.records import Phase as BatchPhase
from pileus.bootstrap.handlers import kinds
from pileus.config.settings import Settings
from pileus.core.records import Lane
from pileus.fleet.lifecycle import Phase
from pileus.fleet.timeline import EventKind
from pileus.scheduling.scaling import Cause
from pileus.store.job_table import JobState, Wish

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

SOURCE = Path(__file__).parents[2] / "src" / "pileus"
FILES = SOURCE / "api" / "console"
VIEWS = ["Overview", "Deployments", "Playground", "Models", "Jobs", "Attention", "Keys"]
LONG_QUESTION = "Write a very long story about a cloud that travels around the whole world."


@pytest.fixture
def guest(browser: Browser, server: Server) -> Iterator[Visit]:
    """Someone before the door. Whatever a test does, nothing may go wrong behind the scenes."""
    with visit(browser, server.base_url) as guest:
        yield guest
    assert guest.faults == []


@pytest.fixture
def owner(guest: Visit, server: Server) -> Visit:
    """Someone signed in with the first admin key."""
    guest.sign_in(server.admin_key)
    return guest


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    """The admin API, to see what the server saw."""
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers) as client:
        yield client


def running(admin: httpx.Client) -> int:
    deployments = admin.get("/admin/v1/status").json()["deployments"]
    return sum(replica["running"] for deployment in deployments for replica in deployment["replicas"])


def until_idle(admin: httpx.Client) -> None:
    """Ask until nothing runs: what happens in the replica gives no event to wait for."""
    deadline = time.monotonic() + 10
    while running(admin):
        assert time.monotonic() < deadline, "the slot is not free"
        time.sleep(0.02)


def answer(page: Page, state: str) -> None:
    """Wait until the last answer is in this state."""
    expect(page.locator(".message.assistant").last).to_have_attribute("data-state", state, timeout=60_000)


def ask_for_long(owner: Visit) -> None:
    """Begin an answer that does not end by itself for a while: greedily, this one runs to its limit of tokens."""
    owner.page.locator("#dial-temperature").fill("0")
    owner.ask(LONG_QUESTION)


# --- the door -------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_what_to_do(guest: Visit) -> None:
    guest.open()
    guest.page.get_by_label("API key").fill("sk-pileus-wrong")
    guest.page.keyboard.press("Enter")
    expect(guest.page.get_by_role("alert")).to_contain_text("mistyped")
    guest.faults = [fault for fault in guest.faults if "401" not in fault]  # Chromium reports the refusal itself


def test_the_key_stays_in_the_tab_and_leaves_at_sign_out(owner: Visit, server: Server) -> None:
    owner.page.reload()
    expect(owner.page.get_by_role("navigation")).to_be_visible()
    assert server.admin_key not in owner.page.evaluate("JSON.stringify({ ...localStorage }) + document.cookie")
    owner.page.get_by_role("button", name="Sign out").click()
    expect(owner.page.get_by_label("API key")).to_be_focused()
    assert owner.page.evaluate("sessionStorage.length") == 0


# --- the overview ---------------------------------------------------------------------------------------------------


def test_the_live_chart_moves_while_an_answer_is_made(owner: Visit) -> None:
    page = owner.page
    line = page.locator(".tokens .chart-line.sky")
    expect(page.locator(".pulse")).to_have_attribute("data-phase", "live")
    before = line.get_attribute("d") or ""
    owner.show("Playground")
    ask_for_long(owner)
    owner.show("Overview")
    expect(page.locator(".tokens .figure")).to_have_text(re.compile(r"[1-9]"), timeout=30_000)
    expect(line).not_to_have_attribute("d", before)
    owner.show("Deployments")
    expect(page.locator(".replicas tr", has_text="smollm2-135m/0")).to_contain_text("Ready")
    owner.show("Playground")
    page.keyboard.press("Escape")
    answer(page, "stopped")


def test_a_chart_is_read_by_the_arrow_keys(owner: Visit) -> None:
    chart = owner.page.get_by_role("img", name=re.compile("^KV cache"))
    expect(chart).to_have_attribute("aria-label", re.compile(r"Now .*mean"))
    chart.focus()
    owner.page.keyboard.press("Home")
    owner.page.keyboard.press("ArrowRight")
    expect(owner.page.locator("#announcer")).to_have_text(re.compile(r"\d+:\d+:\d+.*, in use .*%, prefix hits"))
    expect(owner.page.locator(".kv .chart-readout")).to_be_visible()


def test_nothing_is_fetched_while_nobody_looks(owner: Visit) -> None:
    page, pulse = owner.page, owner.page.locator(".pulse")
    expect(pulse).to_have_attribute("data-phase", "live")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/live")):
        page.evaluate(
            "Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
    expect(pulse).to_have_attribute("data-phase", "paused")
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(pulse).to_have_attribute("data-phase", "live")


def test_a_lost_server_is_told_and_found_again(owner: Visit) -> None:
    page, pulse = owner.page, owner.page.locator(".pulse")
    expect(pulse).to_have_attribute("data-phase", "live")
    page.route("**/admin/v1/**", lambda route: route.abort())
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    expect(pulse).to_contain_text("cannot be reached")
    page.unroute("**/admin/v1/**")
    expect(pulse).to_have_attribute("data-phase", "live", timeout=15_000)
    owner.faults = [fault for fault in owner.faults if "ERR_FAILED" not in fault]


# --- the playground -------------------------------------------------------------------------------------------------


def test_an_answer_streams_and_tells_where_its_time_went(owner: Visit) -> None:
    page = owner.page
    owner.show("Playground")
    page.evaluate(
        """() => {
          window.lengths = new Set();
          const note = () => window.lengths.add(document.querySelector(".prose")?.textContent.length ?? 0);
          new MutationObserver(note).observe(document.querySelector(".transcript"), { childList: true, subtree: true });
        }"""
    )
    page.get_by_label("Max tokens").fill("48")
    owner.ask("What is a cloud?")
    answer(page, "done")
    assert page.evaluate("window.lengths.size") > 8
    figures = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert re.fullmatch(r"[\d.,]+ tokens/s", figures["Speed"])
    for phase in ("First token", "Queue", "Prefill"):
        assert re.fullmatch(r"[\d.]+ m?s", figures[phase]), figures
    assert int(figures["Answer"].split()[0]) <= 48


def test_the_model_hears_what_was_said_before_and_the_dials(owner: Visit) -> None:
    page = owner.page
    owner.show("Playground")
    page.get_by_label("System prompt").fill("You are brief.")
    page.locator("#dial-temperature").fill("0")
    page.get_by_label("Max tokens").fill("8")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Stop strings").fill("###")
    owner.ask("Hello!")
    answer(page, "done")
    with page.expect_request("**/v1/chat/completions") as request:
        owner.ask("And again?")
    sent = json.loads(request.value.post_data or "")
    assert [message["role"] for message in sent.pop("messages")] == ["system", "user", "assistant", "user"]
    assert sent == {
        "model": "smollm2-135m",
        "temperature": 0,
        "max_tokens": 8,
        "seed": 7,
        "stop": ["###"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    answer(page, "done")
    page.get_by_role("button", name="Ask again").click()
    answer(page, "done")
    expect(page.locator(".message")).to_have_count(4)


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stop_ends_the_answer_and_frees_its_slot(owner: Visit, admin: httpx.Client, way: str) -> None:
    page = owner.page
    owner.show("Playground")
    ask_for_long(owner)
    expect(page.locator(".prose p").first).not_to_be_empty(timeout=30_000)
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press(way)
    answer(page, "stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    until_idle(admin)
    owner.show("Overview")
    expect(page.locator(".queue .figure-aside")).to_contain_text("0 running")


def test_shift_enter_breaks_the_line_and_a_draft_is_kept(owner: Visit) -> None:
    owner.show("Playground")
    box = owner.page.get_by_role("textbox", name="Message")
    box.press_sequentially("one")
    owner.page.keyboard.press("Shift+Enter")
    box.press_sequentially("two")
    expect(box).to_have_value("one\ntwo")
    expect(owner.page.locator(".message")).to_have_count(0)
    owner.show("Overview")
    owner.show("Playground")
    expect(box).to_have_value("one\ntwo")


def stream(*pieces: str) -> str:
    """Server-sent events of an answer."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def test_a_hostile_answer_stays_text(owner: Visit) -> None:
    hostile = """<img src=x onerror="document.title='owned'"> <script>document.title='owned'</script>
[click](javascript:document.title='owned') ![pixel](https://elsewhere.example/pixel.png) https://elsewhere.example

```html
<iframe src="https://elsewhere.example"></iframe>
```"""
    owner.show("Playground")
    owner.page.route(
        "**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=stream(hostile))
    )
    owner.ask("Attack me.")
    answer(owner.page, "done")
    prose = owner.page.locator(".prose")
    expect(prose).to_contain_text("<img src=x onerror=")
    expect(prose).to_contain_text("<iframe src=")
    expect(prose.locator("a, img, script, iframe")).to_have_count(0)
    expect(owner.page).to_have_title("Playground · Pileus")


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (503, "overloaded", "The queue is full at the moment. Try again in 7s."),
        (400, "context_length_exceeded", "5000 tokens do not fit. Start a new chat, or ask for fewer tokens."),
        (429, "insufficient_quota", "The budget of this key is used up. Ask for a higher one."),
    ],
)
def test_an_error_says_what_to_do(owner: Visit, status: int, code: str, advice: str) -> None:
    def refuse(route: Route) -> None:
        headers = {"retry-after": "7"} if status == 503 else {}
        error = {"error": {"message": "5000 tokens do not fit.", "type": "x", "param": None, "code": code}}
        route.fulfill(status=status, headers=headers, json=error)

    owner.show("Playground")
    owner.page.route("**/v1/chat/completions", refuse)
    owner.ask("Hello?")
    expect(owner.page.locator(".message .complaint")).to_have_text(advice)
    expect(owner.page.locator("#announcer")).to_have_text(advice)
    expect(owner.page.get_by_role("button", name="Ask again")).to_be_visible()
    owner.faults = [fault for fault in owner.faults if str(status) not in fault]


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_is_made_shown_once_used_and_revoked(owner: Visit, browser: Browser, server: Server) -> None:
    page = owner.page
    owner.show("Keys")
    page.get_by_role("button", name="Create a key").click()
    page.get_by_label("Name").fill("paper boy")
    page.keyboard.press("Enter")
    secret = page.get_by_label("Secret").input_value()
    assert secret.startswith("sk-pileus-")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("row", name=re.compile("paper boy"))).to_contain_text("Active")
    assert secret not in page.content()

    with visit(browser, server.base_url) as user:
        user.sign_in(secret)
        expect(user.page.get_by_role("navigation").get_by_role("link")).to_have_text(["Playground", "Models", "Jobs"])
        page.get_by_role("button", name="Revoke paper boy").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("row", name=re.compile("paper boy"))).to_contain_text("Revoked")
        user.ask("Am I still in?")
        expect(user.page.get_by_role("alert")).to_contain_text("revoked")
        expect(user.page.get_by_label("API key")).to_be_focused()


# --- for everyone ---------------------------------------------------------------------------------------------------

AUDIT = Path(__file__).with_name("console_audit.js").read_text()


def shown_completely(page: Page) -> None:
    """Wait for what a view loads."""
    expect(
        page.locator(
            ".pulse[data-phase=live], #chat-model option, #explain-model option, .keys tbody tr, .versions tbody tr"
        ).first
    ).to_be_attached()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_labelled_and_has_contrast(browser: Browser, server: Server, theme: str) -> None:
    with visit(browser, server.base_url, theme="dark" if theme == "dark" else "light") as guest:
        guest.open()
        expect(guest.page.get_by_label("API key")).to_be_visible()
        assert guest.page.evaluate(AUDIT) == []
        guest.sign_in(server.admin_key)
        for view in VIEWS:
            guest.show(view)
            shown_completely(guest.page)
            assert guest.page.evaluate(AUDIT) == [], view
        guest.page.get_by_role("button", name="Create a key").click()
        assert guest.page.evaluate(AUDIT) == []


@pytest.mark.parametrize("width", [360, 768, 2560])
def test_no_view_scrolls_sideways(browser: Browser, server: Server, width: int) -> None:
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    with visit(browser, server.base_url, width=width) as guest:
        guest.open()
        assert guest.page.evaluate(overflow) == 0
        guest.sign_in(server.admin_key)
        for view in VIEWS:
            guest.show(view)
            shown_completely(guest.page)
            assert guest.page.evaluate(overflow) == 0, view


def test_attention_is_drawn_for_a_text(owner: Visit) -> None:
    page = owner.page
    owner.show("Attention")
    expect(page.locator("#explain-model option")).to_have_count(1)
    page.get_by_label("Text, up to 64 tokens").fill("The cat sat down.")
    page.get_by_role("button", name="Show", exact=True).click()
    picture = page.get_by_role("img", name="Attention of layer 29, head 0")
    expect(picture).to_be_visible(timeout=60_000)
    assert page.locator(".attention li").all_text_contents() == ["The", " cat", " sat", " down", "."]
    expect(picture.locator("rect")).to_have_count(5 * 6 // 2)
    expect(picture.locator("rect title").first).to_have_text("The → The: 100%")
    page.get_by_label("Head", exact=True).select_option("8")
    expect(page.get_by_role("img", name="Attention of layer 29, head 8")).to_be_visible()
    expect(page.locator(".worked table")).to_have_count(9)


def brightness(page: Page) -> int:
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_dark_follows_the_system_until_the_reader_chooses(browser: Browser, server: Server) -> None:
    with visit(browser, server.base_url, theme="dark") as guest:
        guest.open()
        assert brightness(guest.page) < 150
        guest.page.get_by_role("button", name="Switch between light").click()
        assert brightness(guest.page) > 700
        guest.page.reload()
        assert brightness(guest.page) > 700
        guest.page.get_by_role("button", name="Switch between light").click()
        assert brightness(guest.page) < 150


def test_chinese_is_one_click_away_and_stays(owner: Visit) -> None:
    page = owner.page
    page.get_by_role("button", name="中").click()
    expect(page.locator("h1")).to_have_text("概览")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.reload()
    expect(page.locator("h1")).to_have_text("概览")
    keys = "(language) => import(`/console/js/locales/${language}.js`).then((module) => Object.keys(module.default))"
    assert page.evaluate(keys, "zh") == page.evaluate(keys, "en")


def test_every_word_that_the_code_asks_for_is_in_the_dictionary() -> None:
    words = set(re.findall(r'^  "?([a-z0-9_.-]+)"?:', (FILES / "js/locales/en.js").read_text(), re.MULTILINE))
    code = "\n".join(path.read_text() for path in (FILES / "js").rglob("*.js") if path.parent.name != "locales")
    asked = set(re.findall(r'\bt\("([^"]+)"', code)) | {f"nav.{view.lower()}" for view in VIEWS}
    assert asked <= words
    built = re.findall(r"\bt\(`([^`]+)`", code)
    patterns = [re.compile(re.sub(r"\$\{.*?\}", "[a-z_0-9-]+", re.sub(r"\.", r"\\.", each))) for each in built]
    assert all(any(pattern.fullmatch(word) for word in words) for pattern in patterns)


def test_every_state_event_cause_and_stage_of_the_fleet_has_its_words() -> None:
    words = set(re.findall(r'^  "([^"]+)":', (FILES / "js/locales/en.js").read_text(), re.MULTILINE))
    source = "".join(path.read_text() for room in ("fleet", "models") for path in (SOURCE / room).rglob("*.py"))
    stages = set(re.findall(r'(?:progress\(|settle\(.*, )"([a-z ]+)"', source))
    assert {"downloading", "replacing", "scaling", "starting", "draining"} <= stages
    assert {f"stage.{stage.replace(' ', '_')}" for stage in stages} <= words
    for enum, key in ((Phase, "state"), (EventKind, "event"), (Cause, "cause"), (Lane, "lane")):
        assert {f"{key}.{each.value}" for each in enum} <= words


def test_every_kind_state_wish_and_stage_of_a_job_has_its_words() -> None:
    words = set(re.findall(r'^  "([^"]+)":', (FILES / "js/locales/en.js").read_text(), re.MULTILINE))
    assert {f"job.state.{state}" for state in JobState} <= words
    assert {f"job.wish.{wish}" for wish in Wish if wish} <= words
    assert {f"job.stage.{phase}" for phase in BatchPhase} <= words
    assert {f"job.kind.{kind.name}" for kind in kinds(Settings())} <= words
    listed = re.search(r"const STATES = \[(.*?)\]", (FILES / "js/views/jobs.js").read_text(), re.DOTALL)
    assert listed is not None
    assert re.findall(r'"(\w+)"', listed[1]) == list(JobState)


def test_the_console_is_light_and_needs_nothing_from_elsewhere() -> None:
    files = [path for path in FILES.rglob("*") if path.is_file()]
    fetched = sum(path.stat().st_size for path in files if path.name != "zh.js")  # one language at a time
    assert fetched < 215_000
    page = (FILES / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", page)
    for path in files:
        addresses = set(re.findall(r"https?://[\w./]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path
