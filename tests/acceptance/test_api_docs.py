"""`/docs` in a real Chromium, which tells what the page's content security policy would not let pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from acceptance.browser import CHROMIUM, Visit, chromium, visit
from acceptance.process import running_server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Visit]:
    """Someone who reads the API's documentation."""
    config = tmp_path / "pileus.toml"
    config.write_text('[[deployment]]\nname = "fake"\nmodel = "fake"\nengine = "fake"\n')
    with (
        running_server(tmp_path, "--config", str(config)) as server,
        chromium() as browser,
        visit(browser, server.base_url) as reader,
    ):
        yield reader


def test_the_docs_show_every_endpoint_and_load_nothing_from_elsewhere(reader: Visit) -> None:
    page = reader.page
    page.goto(f"{reader.base_url}/docs")
    chat = page.locator(".opblock", has_text="/v1/chat/completions")
    expect(chat).to_be_visible(timeout=20_000)
    chat.click()
    expect(chat.get_by_text("messages").first).to_be_visible()
    assert reader.faults == []
