"""Pileus itself, started as an operator starts it, on a data folder of its own."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from msgspec import Struct

from benchmarks.peers import Say
from benchmarks.processes import Family, Process, StartError, free_port

_PILEUS = (sys.executable, "-m", "pileus")
MODEL = "smollm2-135m-instruct"


class Home(Struct, frozen=True):
    """A fresh data folder with one admin key; only the models are kept from run to run."""

    data: Path
    config: Path
    key: str
    port: int


class Server(Struct, frozen=True):
    """A running server."""

    process: Process
    home: Home

    def status(self) -> dict[str, Any]:
        """What `GET /admin/v1/status` tells."""
        return get(self.home, "status")

    def replica_pids(self) -> list[int]:
        deployments = self.status()["deployments"]
        return [replica["pid"] for deployment in deployments for replica in deployment["replicas"] if replica["pid"]]

    def server_pid(self) -> int:
        """The process that started the replicas: `process` may be a `make` in front of it."""
        return _parent(self.replica_pids()[0])


class Weights(Struct, frozen=True):
    """The default model on this machine."""

    artefact: Path  # what Pileus serves
    gguf: Path  # what it was made from


def pull(cache: Path, say: Say) -> Weights:
    """Get the model through the catalogue; at once if an earlier run did."""
    from pileus.config.settings import Settings
    from pileus.models.catalogue import Catalogue
    from pileus.models.known import KNOWN_MODELS
    from pileus.models.store import ModelStore

    known = next(model for model in KNOWN_MODELS if model.name == MODEL)
    say(f"getting {MODEL}, if it is not here")
    artefact = Catalogue(cache / "models", Settings().models).ensure(MODEL)
    blob = ModelStore(cache / "models").blob(known.sha256)
    if blob is None:
        raise StartError(f"the file that {MODEL} was made from is gone: remove {cache / 'models'} and try again")
    assert known.hub is not None
    gguf = cache / "weights" / known.hub.file
    gguf.parent.mkdir(parents=True, exist_ok=True)
    gguf.unlink(missing_ok=True)
    gguf.symlink_to(blob)
    return Weights(artefact.path, gguf)


def make_home(family: Family, cache: Path, deployments: str) -> Home:
    """`deployments` is TOML. The folder goes when the family does."""
    data = Path(mkdtemp(prefix="data-", dir=cache))
    family.callback(shutil.rmtree, data)
    (cache / "models").mkdir(exist_ok=True)
    (data / "models").symlink_to(cache / "models")
    config = data / "pileus.toml"
    config.write_text(deployments)
    key = pileus(
        *("keys", "create", "benchmarks", "--role", "admin", "--local", "--json"),
        *("--data", str(data), "--config", str(config)),
    )
    return Home(data, config, json.loads(key)["secret"], free_port())


def pileus(*arguments: str) -> str:
    """One command, to its end. Returns what it printed; raises `StartError` with its own words."""
    done = subprocess.run([*_PILEUS, *arguments], capture_output=True, text=True, check=False, env=_environ())
    if done.returncode:
        raise StartError(f"`pileus {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout


def make_key(home: Home, tenant: str, **rights: object) -> str:
    """The secret of a new key on a running server."""
    wish = {"name": tenant, "tenant": tenant, **rights}
    request = urllib.request.Request(
        f"http://127.0.0.1:{home.port}/admin/v1/keys",
        json.dumps(wish).encode(),
        {"authorization": f"Bearer {home.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["secret"])


def get(home: Home, path: str) -> dict[str, Any]:
    """What administration tells of a running server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{home.port}/admin/v1/{path}", headers={"authorization": f"Bearer {home.key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


async def serve(
    family: Family, home: Home, log: Path, cores: Iterable[int] | None = None, timeout_s: float = 120
) -> Server:
    """Start it and wait until every deployment is ready."""
    command = [*_PILEUS, "serve", "--port", str(home.port), "--data", str(home.data), "--config", str(home.config)]
    server = Server(family.start(command, log, environ=_environ(), cores=cores), home)
    try:
        async with asyncio.timeout(timeout_s):
            while not _is_ready(home.port):
                server.process.check()
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise StartError(f"not ready after {timeout_s:.0f} s: {server.process.log_tail()}") from error
    return server


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _environ() -> dict[str, str]:
    """Nothing of the caller's own Pileus."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PILEUS_")}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
