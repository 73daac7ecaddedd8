"""Takes the README's pictures of the console: `PYTHONPATH=tests python -m acceptance.pictures docs/images`.

The server, the model and the load are real; the load comes and goes in waves for a minute, so that the charts have
something to tell.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

from openai import OpenAI
from playwright.sync_api import Browser, expect

from acceptance.browser import Visit, chromium, visit
from acceptance.process import Server, running_server
from pileus.config.settings import Models
from pileus.models.catalogue import Catalogue

_MODEL: Final = "smollm2-135m"
_WAVES: Final = (2, 6, 12, 24, 16, 8, 3, 10, 20, 12, 5)  # simultaneous requests
_CONFIG: Final = """
[[deployment]]
name = "smollm2-135m"
model = "smollm2-135m-instruct"
replicas = 2
aliases = ["default"]
"""
_TOPICS: Final = ("rain", "wind", "snow", "fog", "thunder", "sunrise", "the sea", "mountains")
_QUESTION: Final = "Why is the sky blue? Answer with a short list."


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        config = Path(data, "pileus.toml")
        config.write_text(_CONFIG)
        Catalogue(Path(data, "models"), Models()).ensure("smollm2-135m-instruct")
        with running_server(Path(data), "--config", str(config)) as server, chromium() as browser:
            make_waves(server)
            for theme, suffix in (("light", ""), ("dark", "-dark")):
                take(browser, server, theme, suffix, folder)  # type: ignore[arg-type]


def make_waves(server: Server) -> None:
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key) as client, ThreadPoolExecutor(32) as pool:

        def ask(number: int) -> None:
            content = f"Tell a story about {_TOPICS[number % len(_TOPICS)]}."
            client.chat.completions.create(
                model=_MODEL, messages=[{"role": "user", "content": content}], max_tokens=40 + 7 * (number % 9)
            )

        for width in _WAVES:
            list(pool.map(ask, range(width)))


def take(browser: Browser, server: Server, theme: Literal["light", "dark"], suffix: str, folder: Path) -> None:
    with visit(browser, server.base_url, theme=theme, reduced_motion="reduce") as guest:
        guest.sign_in(server.admin_key)
        overview(guest, folder / f"console-overview{suffix}.png")
        playground(guest, folder / f"console-playground{suffix}.png")


def overview(guest: Visit, path: Path) -> None:
    expect(guest.page.locator(".pulse")).to_have_attribute("data-phase", "live")
    guest.page.get_by_role("button", name="1 min").click()
    guest.page.screenshot(path=path)


def playground(guest: Visit, path: Path) -> None:
    guest.show("Playground")
    guest.page.locator("#dial-temperature").fill("0")
    guest.page.get_by_label("Max tokens").fill("120")
    guest.ask(_QUESTION)
    expect(guest.page.locator(".message.assistant")).to_have_attribute("data-state", "done", timeout=60_000)
    guest.page.screenshot(path=path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
