"""Takes the README's pictures of the console: `PYTHONPATH=tests python -m acceptance.pictures docs/images`.

The server, the model and the load are real; the load comes and goes in waves, so that the charts have something to
tell.
"""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from threading import Event
from typing import Final

from openai import OpenAI
from playwright.sync_api import expect

from acceptance.browser import Visit, chromium, visit
from acceptance.process import Server, running_server
from pileus.config.settings import Models
from pileus.models.catalogue import Catalogue

_WAVES: Final = (2, 6, 12, 24, 16, 8, 3, 10, 20, 12, 5)  # simultaneous requests
_WARM_S: Final = 100.0  # the pictures show the last 60 s of it
_CONFIG: Final = """
[[deployment]]
name = "smollm2-135m"
model = "smollm2-135m-instruct"
replicas = 2
aliases = ["default"]
"""
_TOPICS: Final = ("rain", "wind", "snow", "fog", "thunder", "sunrise", "the sea", "mountains")
_QUESTIONS: Final = ("Why is the sky blue? Answer with a short list.", "Thank you!")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        config = Path(data, "pileus.toml")
        config.write_text(_CONFIG)
        Catalogue(Path(data, "models"), Models()).ensure("smollm2-135m-instruct")
        with running_server(Path(data), "--config", str(config)) as server:
            take(server, folder)


def take(server: Server, folder: Path) -> None:
    with chromium() as browser, visit(browser, server.base_url, reduced_motion="reduce") as guest:
        guest.sign_in(server.admin_key)
        with waves(server) as stopped:
            stopped.wait(_WARM_S)
            overview(guest, folder / "console-overview.png")
            guest.page.emulate_media(color_scheme="dark")
            overview(guest, folder / "console-overview-dark.png")
        guest.page.emulate_media(color_scheme="light")
        playground(guest, folder / "console-playground.png")


@contextmanager
def waves(server: Server) -> Iterator[Event]:
    """Load that grows and shrinks until the block is left."""
    stopped = Event()
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key) as client, ThreadPoolExecutor() as pool:

        def ask(number: int) -> None:
            content = f"Tell story {number} about {_TOPICS[number % len(_TOPICS)]}."
            client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": content}], max_tokens=40 + 7 * (number % 9)
            )

        def make() -> None:
            for width in cycle(_WAVES):
                if stopped.is_set():
                    return
                with ThreadPoolExecutor(width) as wave:
                    list(wave.map(ask, range(width)))

        made = pool.submit(make)
        try:
            yield stopped
        finally:
            stopped.set()
            made.result()


def overview(guest: Visit, path: Path) -> None:
    expect(guest.page.locator(".pulse")).to_have_attribute("data-phase", "live")
    guest.page.get_by_role("button", name="1 min").click()
    guest.page.mouse.move(0, 0)
    guest.page.screenshot(path=path)


def playground(guest: Visit, path: Path) -> None:
    guest.show("Playground")
    guest.page.locator("#dial-temperature").fill("0")
    guest.page.get_by_label("Max tokens").fill("120")
    for question in _QUESTIONS:
        guest.ask(question)
        expect(guest.page.locator(".message.assistant").last).to_have_attribute("data-state", "done", timeout=60_000)
    guest.page.screenshot(path=path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
