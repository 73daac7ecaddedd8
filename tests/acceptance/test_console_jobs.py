"""Jobs in the console, as their owner, an operator and a stranger see them: a real Chromium and a real server, with a
batch on the fake engine, and jobs of a kind that nobody runs, so that they stay as they are until somebody acts."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from sqlalchemy import Connection

from acceptance.browser import CHROMIUM, Visit, visit
from acceptance.process import Server, pileus, running_server
from pileus.bootstrap.jobs import JOBS_FOLDER
from pileus.jobs.metrics import METRICS_FILE, MetricsWriter
from pileus.store.job_table import Job, JobLineTable, JobState, JobTable
from pileus.store.sqlite import SqliteStore

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

CONFIG = """
[[deployment]]
name = "first"
model = "fake"
engine = "fake"

[[deployment]]
name = "slow"
model = "fake"
engine = "fake"
options = { slots = 4, step_s = 0.02 }
"""
LINES = 600  # some 12 s for four slots
AUDIT = Path(__file__).with_name("console_audit.js").read_text()
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
START_MS = 30_000  # a job worker's, on a busy machine
PACE_MS = 40_000  # a pace is reckoned over half a minute
BEGAN = time.time() - 7200


def job(name: str, state: JobState, **more: Any) -> Job:
    values: dict[str, Any] = {"kind": "survey", "tenant": "default", "key_id": "key_1", "spec": b"{}"} | more
    return Job(id=f"job_{name}", state=state, created_at=BEGAN, **values)


JOBS = [
    job("done", JobState.SUCCEEDED, done=9, total=9, started_at=BEGAN + 60, finished_at=BEGAN + 3720),
    job("broken", JobState.FAILED, error_code="no_file", error=f"no file {HOSTILE}", failures=6, finished_at=BEGAN + 5),
    job("foreign", JobState.PAUSED, tenant="rain"),
    job("resting", JobState.PAUSED, stage="counting", done=1200, total=20_000, priority=3),
    job("queued", JobState.QUEUED, kind="census"),
    job("doomed", JobState.QUEUED),
    job("last", JobState.WAITING, needs=("job_resting",), due_at=BEGAN + 86_400),
]


def seed(tx: Connection) -> None:
    """What an earlier owner of the data folder left."""
    for each in JOBS:
        JobTable().insert(tx, each)
    lines = [(BEGAN + number, "info", f"line {number} {HOSTILE}") for number in range(300)]
    JobLineTable().insert(tx, "job_broken", [*lines, (BEGAN + 400, "error", "the end")], 1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("jobs")
    store = SqliteStore.open(data)
    store.write_blocking(seed)
    store.close()
    folder = data / JOBS_FOLDER / "job_done"
    folder.mkdir(parents=True)
    writer = MetricsWriter(folder / METRICS_FILE)
    for step in range(1, 10):
        writer.add(step, {"train_loss": max(10.0 - step, 1.5), "learning_rate": 1e-4})
    (data / "pileus.toml").write_text(CONFIG)
    with running_server(data, "--config", str(data / "pileus.toml")) as server:
        yield server


@pytest.fixture
def owner(browser: Browser, server: Server) -> Iterator[Visit]:
    """Someone signed in with the first admin key, who looks at the jobs."""
    with visit(browser, server.base_url) as owner:
        owner.sign_in(server.admin_key)
        owner.show("Jobs")
        yield owner
    assert owner.faults == []


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers) as client:
        yield client


def row(page: Page, name: str) -> Locator:
    return page.locator(".jobs tbody tr", has_text=f"job_{name}")


def details(page: Page) -> Locator:
    return page.locator(".job-details")


def look_at(page: Page, job_id: str) -> Locator:
    page.get_by_role("button", name=f"Details of {job_id}").click()
    expect(details(page).locator("header code")).to_have_text(job_id)
    return details(page)


def shown(page: Page) -> list[str]:
    return [name.removeprefix("job_") for name in page.locator(".jobs tbody code").all_inner_texts()]


def test_jobs_are_listed_latest_first_with_state_and_progress(owner: Visit) -> None:
    page = owner.page
    expect(row(page, "resting")).to_be_visible()
    seeded = [each.id.removeprefix("job_") for each in reversed(JOBS)]
    assert [name for name in shown(page) if name in seeded] == seeded
    expect(row(page, "resting")).to_contain_text("Paused")
    expect(row(page, "resting")).to_contain_text("counting · 1,200 of 20,000 (6%)")
    expect(row(page, "resting").get_by_role("progressbar")).to_have_js_property("position", 0.06)
    expect(row(page, "last")).to_contain_text("Waiting for other jobs")
    expect(row(page, "broken").locator(".state")).to_have_text("Failed")
    expect(row(page, "broken")).to_contain_text(f"no file {HOSTILE}")
    expect(row(page, "foreign")).to_contain_text("rain")
    expect(row(page, "done")).to_contain_text("2h")
    assert page.evaluate(AUDIT) == []


def test_jobs_are_picked_by_kind_and_by_state(owner: Visit) -> None:
    page = owner.page
    expect(row(page, "resting")).to_be_visible()
    page.get_by_label("Kind").select_option("census")
    expect(row(page, "resting")).to_have_count(0)
    assert shown(page) == ["queued"]
    page.get_by_label("State").select_option("Failed")
    expect(page.locator(".empty")).to_have_text("No job is like that.")
    page.get_by_label("Kind").select_option("All kinds")
    expect(row(page, "broken")).to_be_visible()
    assert shown(page) == ["broken"]
    owner.show("Overview")
    owner.show("Jobs")
    expect(page.get_by_label("State")).to_have_value("failed")


def test_a_job_is_looked_at_closely_by_the_keyboard(owner: Visit) -> None:
    page = owner.page
    button = page.get_by_role("button", name="Details of job_broken")
    button.press("Enter")
    expect(page.get_by_role("heading", name="survey")).to_be_focused()
    seen = details(page)
    expect(seen.locator(".complaint")).to_have_text(f"no file {HOSTILE}")
    expect(seen.locator(".history div", has_text="Failures in a row")).to_contain_text("6")
    expect(seen.get_by_role("group").get_by_role("button")).to_have_text(["Resume"])
    log = seen.get_by_role("region", name="Log")
    expect(log).to_contain_text(f"line 299 {HOSTILE}")
    expect(log).to_contain_text("error: the end")
    expect(log).not_to_contain_text("line 100 ")  # the last 200 are enough to begin with
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight < 2 && log.scrollTop > 0")
    expect(page.locator("main img")).to_have_count(0)
    assert page.evaluate(AUDIT) == []
    page.keyboard.press("Escape")
    expect(details(page)).to_be_hidden()
    expect(button).to_be_focused()


def test_the_figures_of_a_job_are_drawn_as_curves(owner: Visit) -> None:
    curves = look_at(owner.page, "job_done").locator(".curves figure")
    expect(curves).to_have_count(2)
    expect(curves.nth(1)).to_contain_text("train_loss1.5")
    expect(curves.nth(1)).to_contain_text("Steps 1 to 9, between 1.5 and 9.")
    path = curves.nth(1).locator("path")
    assert path.evaluate("path => path.getPointAtLength(0).y < path.getPointAtLength(path.getTotalLength()).y")
    expect(curves.nth(0)).to_contain_text("learning_rate1.00e-4")
    assert owner.page.evaluate(AUDIT) == []
    look_at(owner.page, "job_resting")
    expect(owner.page.locator(".curves")).to_be_hidden()


def test_a_job_is_resumed_paused_and_cancelled_after_a_question(owner: Visit, admin: httpx.Client) -> None:
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    seen = look_at(page, "job_doomed")
    seen.get_by_role("button", name="Pause").click()
    expect(dialog.get_by_role("heading")).to_have_text("Pause this job?")
    assert page.evaluate(AUDIT) == []
    dialog.get_by_role("button", name="Cancel").click()
    assert admin.get("/v1/jobs/job_doomed").json()["state"] == "queued"
    seen.get_by_role("button", name="Pause").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(row(page, "doomed").locator(".state")).to_have_text("Paused")
    expect(page.locator("#announcer")).to_have_text("survey: Paused")
    seen.get_by_role("button", name="Resume").click()
    dialog.get_by_role("button", name="Resume").click()
    expect(row(page, "doomed").locator(".state")).to_have_text("Queued")
    seen.get_by_role("button", name="Cancel the job").click()
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(row(page, "doomed").locator(".state")).to_have_text("Cancelled")
    expect(seen.get_by_role("button")).to_have_count(1)  # the one that closes
    expect(seen.locator(".history")).to_contain_text("Ended")
    actions = {event["action"] for event in admin.get("/admin/v1/audit").json()["data"]}
    assert {"job.pause", "job.resume", "job.cancel"} <= actions


def test_what_has_ended_meanwhile_is_refused_in_the_dialog(owner: Visit, admin: httpx.Client) -> None:
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    look_at(page, "job_queued").get_by_role("button", name="Cancel the job").click()
    admin.post("/v1/jobs/job_queued/cancel")
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(dialog.get_by_role("alert")).to_contain_text("cannot be cancelled: it is cancelled")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    owner.faults = [fault for fault in owner.faults if "409" not in fault]


def at_work(page: Page, rate: float) -> None:
    """Let the job that rests look as if it ran at this rate, and told a line a second."""
    began = time.monotonic()

    def told(route: Route) -> None:
        answer = route.fetch().json()
        done = int(rate * (time.monotonic() - began))
        if "/logs" in route.request.url:
            after = int(re.findall(r"after=(\d+)", route.request.url)[0]) if "after=" in route.request.url else 0
            lines = [{"sequence": at, "at": BEGAN, "level": "info", "text": f"at {at}"} for at in range(1, done)]
            answer["data"] = [line for line in lines if line["sequence"] > after]
        for each in answer.get("data", [answer]):
            if each.get("id") == "job_resting":
                each |= {"state": "running", "done": done, "total": 20_000, "fraction": done / 20_000}
        route.fulfill(json=answer)

    page.route("**/v1/jobs**", told)


def test_a_job_at_work_shows_rate_and_time_left_and_its_log_follows(owner: Visit) -> None:
    page = owner.page
    at_work(page, rate=100.0)
    seen = look_at(page, "job_resting")
    expect(row(page, "resting").locator(".state")).to_have_text("Running")
    log = seen.get_by_role("region", name="Log")
    expect(log).to_contain_text("at 150")
    text = log.inner_text().splitlines()
    assert [line.rpartition(" ")[2] for line in text] == [str(at) for at in range(1, len(text) + 1)]
    log.evaluate("log => (log.scrollTop = 0)")
    expect(log).to_contain_text("at 400")
    assert log.evaluate("log => log.scrollTop") == 0  # who reads further up is left there
    told = re.compile(r"\d+ of 20,000 .* · 1?\d\d(\.\d)?/s · [23]m \d+s left")  # it is over 200 s after its begin
    expect(seen.locator(".job-progress")).to_contain_text(told, timeout=PACE_MS)
    page.unroute_all(behavior="ignoreErrors")


def test_a_list_that_comes_late_does_not_undo_the_choice(owner: Visit) -> None:
    page, held = owner.page, list[Route]()
    expect(row(page, "broken")).to_be_visible()
    page.route("**/v1/jobs?limit=50", lambda route: held.append(route))
    with page.expect_request("**/v1/jobs?limit=50"):
        pass  # the look of this second; the next one waits for it
    page.get_by_label("State").select_option("Failed")
    expect(row(page, "resting")).to_have_count(0)
    page.evaluate(
        """() => {
          const body = document.querySelector(".jobs tbody");
          window.most = 0;
          const note = () => (window.most = Math.max(window.most, body.childElementCount));
          new MutationObserver(note).observe(body, { childList: true, subtree: true, characterData: true });
        }"""
    )
    with page.expect_response(re.compile(r"state=failed")):  # of the next look
        held[0].continue_()
    expect(row(page, "broken")).to_be_visible()
    assert page.evaluate("window.most") <= 1
    page.unroute_all()


def test_two_looks_at_once_show_a_line_once(owner: Visit) -> None:
    page, held = owner.page, list[Route]()
    first_lines = "**/v1/jobs/job_broken/logs?limit=200"
    page.route(first_lines, lambda route: held.append(route))
    with page.expect_request(first_lines):
        page.get_by_role("button", name="Details of job_broken").click()
    with page.expect_request(first_lines):
        pass  # the look of the next second
    with page.expect_request("**/v1/jobs/job_broken/logs?after=*"):
        for route in held:
            route.continue_()
    log = details(page).get_by_role("region", name="Log")
    expect(log).to_contain_text("error: the end")
    assert len(log.inner_text().splitlines()) == 200
    page.unroute_all()


def begin_batch(admin: httpx.Client) -> str:
    """A batch that takes a while; its id."""
    body = {"model": "slow", "max_tokens": 4, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    content = "\n".join(json.dumps({"custom_id": str(number), **line}) for number in range(LINES))
    file = admin.post("/v1/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", content)}).json()
    wish = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str(admin.post("/v1/batches", json=wish).json()["id"])


def test_a_batch_is_followed_paused_and_resumed_until_it_has_succeeded(
    owner: Visit, server: Server, admin: httpx.Client
) -> None:
    page, dialog = owner.page, owner.page.get_by_role("dialog")
    batch = begin_batch(admin)
    seen = look_at(page, batch)
    assert shown(page)[0] == batch  # it came to the top
    progress = seen.locator(".job-progress")
    moving = re.compile(rf"running the lines · \d+ of {LINES} \(\S+%\) · \S+/s · .* left")
    expect(progress).to_contain_text(moving, timeout=START_MS)
    expect(seen.get_by_role("region", name="Log")).to_contain_text(f"validated {LINES} lines")
    seen.get_by_role("button", name="Pause").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(seen.locator(".state")).to_have_text("Paused", timeout=START_MS)
    expect(progress).to_have_text(re.compile(rf"running the lines · \d+ of {LINES} \(\S+%\)$"))
    seen.get_by_role("button", name="Resume").click()
    dialog.get_by_role("button", name="Resume").click()
    watched = pileus("jobs", "show", batch, "--watch", PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)
    assert watched.returncode == 0, watched.stderr
    assert f"{LINES}/{LINES} (100%)" in watched.stdout
    expect(seen.locator(".state")).to_have_text("Succeeded")
    expect(page.locator("#announcer")).to_have_text("Batch: Succeeded")
    expect(seen.get_by_role("region", name="Log")).to_contain_text(f"finished: {LINES} of {LINES} lines answered")


def fetched_in_ten_seconds(visitor: Visit) -> list[str]:
    """Requests for jobs that are made once that time has passed in the page."""
    asked = len(visitor.requested)
    visitor.page.clock.fast_forward(10_000)
    with visitor.page.expect_response("**/mark.svg?*"):  # whatever was asked before it has been noticed by then
        visitor.page.evaluate("fetch(`img/mark.svg?${Math.random()}`)")
    return [url for url in visitor.requested[asked:] if "/v1/jobs" in url]


def test_nothing_is_fetched_while_nobody_looks(browser: Browser, server: Server) -> None:
    with visit(browser, server.base_url) as guest:
        page, pulse = guest.page, guest.page.locator(".pulse")
        page.clock.install()
        guest.sign_in(server.admin_key)
        guest.show("Jobs")
        expect(pulse).to_have_attribute("data-phase", "live")
        assert fetched_in_ten_seconds(guest) != []
        page.evaluate(
            "Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        expect(pulse).to_have_attribute("data-phase", "paused")
        assert fetched_in_ten_seconds(guest) == []
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        expect(pulse).to_have_attribute("data-phase", "live")
        assert fetched_in_ten_seconds(guest) != []
        guest.show("Keys")
        assert fetched_in_ten_seconds(guest) == []


def key(admin: httpx.Client, role: str, tenant: str) -> str:
    made = admin.post("/admin/v1/keys", json={"name": f"{role} of {tenant}", "role": role, "tenant": tenant})
    return str(made.json()["secret"])


def test_an_operator_watches_and_a_stranger_is_told_how_to_begin(
    browser: Browser, server: Server, admin: httpx.Client
) -> None:
    with visit(browser, server.base_url) as watch:
        watch.sign_in(key(admin, "operator", "ops"))
        watch.show("Jobs")
        seen = look_at(watch.page, "job_resting")
        expect(seen.get_by_role("group")).to_be_hidden()
        assert "foreign" in shown(watch.page)
        assert watch.faults == []
    with visit(browser, server.base_url) as stranger:
        stranger.sign_in(key(admin, "user", "wind"))
        expect(stranger.page.get_by_role("navigation").get_by_role("link")).to_have_text(
            ["Playground", "Models", "Jobs"]
        )
        stranger.show("Jobs")
        expect(stranger.page.locator(".empty")).to_contain_text("pileus batch run questions.jsonl")
        assert stranger.page.evaluate(AUDIT) == []
        assert stranger.faults == []
    with visit(browser, server.base_url) as tenant:
        tenant.sign_in(key(admin, "user", "rain"))
        tenant.show("Jobs")
        expect(row(tenant.page, "foreign")).to_be_visible()
        assert shown(tenant.page) == ["foreign"]
        expect(look_at(tenant.page, "job_foreign").get_by_role("button", name="Resume")).to_be_visible()


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_nothing_scrolls_sideways_with_the_details_open(browser: Browser, server: Server, width: int) -> None:
    with visit(browser, server.base_url, width=width) as guest:
        guest.sign_in(server.admin_key)
        guest.show("Jobs")
        look_at(guest.page, "job_broken")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert guest.page.evaluate(overflow) == 0
        inner = "e => [...e.querySelectorAll('*')].filter((c) => c.scrollWidth > c.clientWidth + 1 && c.clientWidth && \
            getComputedStyle(c).overflowX === 'hidden' && !c.matches('.visually-hidden')).map((c) => c.className)"
        assert guest.page.locator("main").evaluate(inner) == []  # nothing is cut off


def test_in_the_dark_and_in_chinese_it_reads_as_well(browser: Browser, server: Server) -> None:
    with visit(browser, server.base_url, theme="dark") as guest:
        guest.sign_in(server.admin_key)
        guest.show("Jobs")
        look_at(guest.page, "job_broken")
        assert guest.page.evaluate(AUDIT) == []
        guest.page.get_by_role("button", name="中").click()
        expect(guest.page.locator("h1")).to_have_text("任务")
        expect(row(guest.page, "resting").locator(".state")).to_have_text("已暂停")
        expect(details(guest.page).locator(".state")).to_have_text("失败")
        assert guest.page.evaluate(AUDIT) == []
        words = guest.page.locator("body").inner_text()
        assert not re.findall(r"\bjobs?\.[a-z_]+", words)
        assert guest.faults == []
