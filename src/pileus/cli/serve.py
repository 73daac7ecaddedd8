"""`pileus up` and `pileus serve`: the server, for a person at a terminal and for a service manager."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileus import __version__
from pileus.cli import output
from pileus.cli.config import load
from pileus.cli.options import Config, Data
from pileus.cli.progress import Bars

if TYPE_CHECKING:
    from pileus.bootstrap.server import Ready

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 unless set otherwise.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on; 8000 unless set otherwise.")]
Gateways = Annotated[
    int | None, typer.Option("--gateways", "-g", help="Processes that take requests; 1 unless set otherwise.")
]


def up(
    host: Host = None,
    port: Port = None,
    gateways: Gateways = None,
    data: Data = None,
    config: Config = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the console when it is ready.")] = False,
) -> None:
    """Get the model, start the server, show how to use it. Ctrl-C stops all that it started.

    Example: `pileus up --port 9000 --data ~/pileus`
    """
    _run(Greeter(open_browser=browser), host, port, gateways, data, config)


def serve(
    host: Host = None,
    port: Port = None,
    gateways: Gateways = None,
    data: Data = None,
    config: Config = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
    jobs_only: Annotated[bool, typer.Option("--jobs-only", hidden=True)] = False,
) -> None:
    """Start the server as a service does: logs only, no key is made.

    Example: `pileus serve --config /etc/pileus.toml --gateways 4`
    """
    if with_parent:
        from pileus.engines.replica.process import die_with_parent

        die_with_parent()
    _run(None, host, port, gateways, data, config, jobs_only=jobs_only)


def _run(
    greeter: "Greeter | None",
    host: str | None,
    port: int | None,
    gateways: int | None,
    data: Path | None,
    config: Path | None,
    *,
    jobs_only: bool = False,
) -> None:
    flags = {"server.host": host, "server.port": port, "server.gateways": gateways, "data_dir": data}
    loaded = load(config, flags)
    if greeter and loaded.origin["log.level"] == "default":
        loaded = load(config, flags | {"log.level": "warning"})  # the greeter tells the rest

    from pileus.bootstrap.server import run_server

    run_server(loaded, listener=greeter, deploys=not jobs_only)


class Greeter:
    """Tells the person at the terminal what happens while the server starts and stops (bootstrap's `Listener`)."""

    def __init__(self, *, open_browser: bool) -> None:
        self._open_browser = open_browser
        self._bars = Bars()

    def progress(self, stage: str, done: int, total: int) -> None:
        self._bars(stage, done, total)

    def ready(self, ready: "Ready") -> None:
        self._bars.finish()
        for line in greeting(ready):
            output.line(line)
        output.flush()
        if self._open_browser:
            import webbrowser

            webbrowser.open(f"{ready.url}/console")

    def stopping(self) -> None:
        self._bars.finish()
        output.note("Finishing what runs, then stopping. Ctrl-C again stops at once.")


def greeting(ready: "Ready") -> list[str]:
    """What a person needs next: the addresses, the key while it can still be seen, and a first request."""
    key = ready.admin_key or "$PILEUS_API_KEY"
    lines = [
        f"Pileus {__version__} is ready after {ready.took_s:.1f} s and serves {', '.join(ready.models)}.",
        "",
        f"  API      {ready.url}/v1",
        f"  Console  {ready.url}/console",
    ]
    if ready.admin_key:
        lines += [
            "",
            "Your admin key. It is shown this once; keep it:",
            "",
            f"  export PILEUS_API_KEY={ready.admin_key}",
        ]
    lines += [
        "",
        "Try it:",
        "",
        f"  curl {ready.url}/v1/chat/completions \\",
        f'    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        f'    -d \'{{"model": "{ready.models[0]}", "messages": [{{"role": "user", "content": "What is a cloud?"}}]}}\'',
        "",
        "Ctrl-C stops it.",
    ]
    return lines
