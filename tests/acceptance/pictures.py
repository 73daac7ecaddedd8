"""Takes the README's pictures of the console: `PYTHONPATH=tests python -m acceptance.pictures docs/images`.

The server, the model and the load are real; the load comes and goes in waves, so that the charts have something to
tell.
"""

import json
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
_BATCH: Final = 4000  # lines: more than are run while the picture is taken
_PACE_MS: Final = 8000.0  # after which a rate says something
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
        jobs(guest, server, folder / "console-jobs.png")


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


def jobs(guest: Visit, server: Server, path: Path) -> None:
    """A batch that has succeeded, one that is refused for a line, and one at work."""
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key) as client:
        guest.show("Jobs")
        for count, model, end in ((40, "default", "Succeeded"), (40, "nobody", "Failed"), (_BATCH, "default", "")):
            batch = begin_batch(client, count, model)
            row = guest.page.locator(".jobs tbody tr", has_text=batch)
            if end:
                expect(row.locator(".state")).to_have_text(end, timeout=120_000)
        guest.page.get_by_role("button", name=f"Details of {batch}").click()
        expect(row).to_contain_text("left", timeout=120_000)
        guest.page.wait_for_timeout(_PACE_MS)
        guest.page.screenshot(path=path)
        client.batches.cancel(batch)


def begin_batch(client: OpenAI, count: int, model: str) -> str:
    lines = [
        {
            "custom_id": f"{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": model,
                "max_tokens": 16,
                "messages": [{"role": "user", "content": f"{number}: tell of {_TOPICS[number % len(_TOPICS)]}."}],
            },
        }
        for number in range(count)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("stories.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h").id


if __name__ == "__main__":
    main(Path(sys.argv[1]))
