"""A real Chromium, and visits to the console in it that remember what went wrong on the way."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")

# Nothing that the browser does of its own accord shall reach the network.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The distribution's Chromium, headless, with a profile of its own that goes with it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One tab on a server's console. `faults` holds what nobody should see: console errors, exceptions, refusals of the
    content security policy, and requests to anyone else."""

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.faults: list[str] = []
        self.requested: list[str] = []
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("request", lambda request: self._on_request(request.url))

    def _on_console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"console {kind}: {text}")

    def _on_request(self, url: str) -> None:
        self.requested.append(url)
        if urlsplit(url).scheme != "data" and not url.startswith(f"{self.base_url}/"):
            self.faults.append(f"request to another origin: {url}")

    def open(self, view: str = "") -> None:
        self.page.goto(f"{self.base_url}/console/{f'#/{view}' if view else ''}")

    def sign_in(self, key: str) -> None:
        """As a person does, by the keyboard."""
        self.open()
        self.page.get_by_label("API key").fill(key)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("navigation")).to_be_visible()

    def show(self, view: str) -> None:
        self.page.get_by_role("navigation").get_by_role("link", name=view).click()
        expect(self.page.locator("h1")).to_have_text(view)

    def ask(self, text: str) -> None:
        """Write a message and send it; the playground must be shown."""
        expect(self.page.locator("#chat-model option")).not_to_have_count(0)
        self.page.get_by_role("textbox", name="Message").fill(text)
        self.page.keyboard.press("Enter")


@contextmanager
def visit(
    browser: Browser, base_url: str, *, theme: Literal["light", "dark"] = "light", width: int = 1280, **options: Any
) -> Iterator[Visit]:
    """A tab with nothing remembered from another."""
    viewport: Any = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=theme, locale="en-US", **options)
    try:
        yield Visit(context.new_page(), base_url)
    finally:
        context.close()
