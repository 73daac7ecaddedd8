"""Adapters on a real server: two replicas and two gateway processes, which all agree, also after deaths and updates."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import NotFoundError, OpenAI

from acceptance.process import Server, pileus, running_server
from made_models import write_tiny_gguf
from pileus.testing.adapters import random_tensors, write_adapter

# Of `made_models.write_tiny_gguf`.
SIZES = dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), (32, 32))
NAMES = ("first", "second", "third")
CONFIG = """
[routing]
policy = "round_robin"

[[deployment]]
name = "tiny"
model = "tiny"
aliases = ["small"]
replicas = 2
options = { deterministic = true, kv_bytes = 4194304, threads = 1, adapters = 2 }
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and three adapters of it, imported by the command."""
    data = tmp_path_factory.mktemp("data")
    (data / "pileus.toml").write_text(CONFIG)
    write_tiny_gguf(data / "tiny.gguf")
    assert pileus("models", "import", str(data / "tiny.gguf"), "tiny", "--data", str(data)).returncode == 0
    for seed, name in enumerate(NAMES):
        folder = write_adapter(data / name, random_tensors(seed, 4, list(SIZES), 1, SIZES, 0.5), 4)
        done = pileus("adapters", "import", str(folder), name, "--base", "tiny", "--data", str(data))
        assert done.returncode == 0, done.stderr
    return data


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Server]:
    with running_server(data, "--config", str(data / "pileus.toml"), "--gateways", "2") as server:
        yield server


class Caller:
    """One key, as a user of OpenAI's client and as an administrator of this server."""

    def __init__(self, server: Server, key: str = "") -> None:
        self.server, self.key = server, key or server.admin_key

    def ask(self, model: str, prompt: str = "hello world") -> str:
        """A new connection each time, so that any of the gateways may take it."""
        with OpenAI(base_url=f"{self.server.base_url}/v1", api_key=self.key, max_retries=0) as client:
            answer = client.completions.create(
                model=model, prompt=prompt, max_tokens=12, temperature=0, extra_body={"ignore_eos": True}
            )
        return answer.choices[0].text

    def admin(self, path: str, method: str = "GET", **body: Any) -> Any:
        headers = {"authorization": f"Bearer {self.key}"}
        url = f"{self.server.base_url}{path}"
        answer = httpx.request(method, url, headers=headers, json=body or None, trust_env=False, timeout=30)
        return answer.json()

    def replicas(self) -> list[Any]:
        [deployment] = self.admin("/admin/v1/deployments")["data"]
        return [each for each in deployment["replicas"] if each["state"] == "ready"]

    def command(self, *arguments: str) -> Any:
        return pileus(*arguments, PILEUS_URL=self.server.base_url, PILEUS_API_KEY=self.key)


@pytest.fixture
def caller(server: Server) -> Iterator[Caller]:
    """Without any adapter when the test begins, and when it ends."""
    caller = Caller(server)
    yield caller
    for each in caller.admin("/admin/v1/deployments/tiny/adapters")["data"]:
        caller.admin(f"/admin/v1/deployments/tiny/adapters/{each['name']}", "DELETE")


def add(caller: Caller, name: str, tenant: str = "") -> None:
    added = caller.admin(f"/admin/v1/deployments/tiny/adapters/{name}", "PUT", artefact=name, tenant=tenant)
    assert added["served"], added


def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Ask until it is so: what happens in other processes gives no event to wait for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def answers(caller: Caller, names: tuple[str, ...], rounds: int = 4) -> dict[str, set[str]]:
    """All that was said under each name, by whichever replica. All ask at once, so that no replica is idle."""
    asked = [name for name in names for _ in range(rounds)]
    with ThreadPoolExecutor(len(asked)) as threads:
        said = list(threads.map(lambda name: caller.ask(f"tiny:{name}"), asked))
    return {name: {text for of, text in zip(asked, said, strict=True) if of == name} for name in names}


def test_adapters_are_served_without_a_restart_and_every_replica_agrees(caller: Caller) -> None:
    before, pids = caller.ask("tiny"), {each["pid"] for each in caller.replicas()}
    for name in NAMES:
        add(caller, name)
    said = answers(caller, NAMES, rounds=6)
    assert all(len(texts) == 1 for texts in said.values()), said
    assert len({text for texts in said.values() for text in texts} | {before}) == 4
    assert caller.ask("tiny") == before
    assert caller.ask("small:first") in said["first"]
    # Both had their share; their figures come twice a second.
    eventually(lambda: all(each["generated_tokens"] > 12 for each in caller.replicas()))
    assert {each["pid"] for each in caller.replicas()} == pids


def test_they_are_still_there_after_a_death_and_after_a_rolling_update(caller: Caller) -> None:
    add(caller, "first")
    said = caller.ask("tiny:first")
    dead = caller.replicas()[0]["pid"]
    os.kill(dead, signal.SIGKILL)
    eventually(lambda: len(caller.replicas()) == 2 and dead not in {each["pid"] for each in caller.replicas()})
    assert answers(caller, ("first",)) == {"first": {said}}
    pids = {each["pid"] for each in caller.replicas()}
    caller.admin("/admin/v1/deployments/tiny/restart", "POST")
    eventually(lambda: len(caller.replicas()) == 2 and not pids & {each["pid"] for each in caller.replicas()})
    assert answers(caller, ("first",)) == {"first": {said}}


def test_an_adapter_is_its_tenants_alone_and_on_its_bill(caller: Caller) -> None:
    keys = {
        tenant: Caller(caller.server, caller.admin("/admin/v1/keys", "POST", name=tenant, tenant=tenant)["secret"])
        for tenant in ("acme", "other")
    }
    add(caller, "second", tenant="acme")
    assert keys["acme"].ask("tiny:second")
    with pytest.raises(NotFoundError, match="does not exist"):
        keys["other"].ask("tiny:second")
    shown = {name: {each["id"] for each in key.admin("/v1/models")["data"]} for name, key in keys.items()}
    assert shown == {"acme": {"tiny", "tiny:second"}, "other": {"tiny"}}
    assert keys["acme"].admin("/v1/models/tiny:second")["id"] == "tiny:second"
    eventually(lambda: "tiny:second" in {each["deployment"] for each in caller.admin("/admin/v1/usage")["data"]})


def test_one_that_is_removed_is_not_found_and_one_that_does_not_fit_is_refused(caller: Caller, data: Path) -> None:
    add(caller, "third")
    assert caller.ask("tiny:third")
    removed = caller.command("adapters", "remove", "tiny", "third", "--yes")
    assert removed.returncode == 0, removed.stderr
    with pytest.raises(NotFoundError):
        caller.ask("tiny:third")
    sizes = dict.fromkeys(SIZES, (16, 32))
    folder = write_adapter(data / "odd", random_tensors(9, 4, list(SIZES), 1, sizes), 4)
    assert pileus("adapters", "import", str(folder), "odd", "--base", "tiny", "--data", str(data)).returncode == 0
    refused = caller.command("adapters", "add", "tiny", "odd", "odd")
    assert refused.returncode == 1
    assert "layers.0.q_proj is 32 x 32, the adapter's is 16 x 32" in refused.stderr
    assert caller.admin("/admin/v1/deployments/tiny/adapters")["data"] == []
    acts = [(each["action"], each["target"]) for each in caller.admin("/admin/v1/audit?limit=50")["data"]]
    assert {("adapter.add", "tiny:third"), ("adapter.remove", "tiny:third")} <= set(acts)
    assert ("adapter.add", "tiny:odd") not in acts


def test_the_next_start_of_the_server_serves_them_again(tmp_path: Path, data: Path) -> None:
    for name in ("models", "pileus.toml"):
        (tmp_path / name).symlink_to(data / name)
    arguments = (tmp_path, "--config", str(data / "pileus.toml"))
    with running_server(*arguments) as server:
        caller = Caller(server)
        add(caller, "first")
        said, key = caller.ask("tiny:first"), server.admin_key
    with running_server(*arguments) as server:
        assert Caller(server, key).ask("tiny:first") == said
