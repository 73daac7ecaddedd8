"""One attacked server for all attacks, and its invariants after each of them."""

from collections.abc import Iterator

import pytest

from acceptance.process import running_server
from attacks.target import Target

CONFIG = """
[log]
level = "info"
format = "json"

[[deployment]]
name = "fast"
model = "fake"
engine = "fake"

[[deployment]]
name = "slow"
model = "fake"
engine = "fake"
options = { step_s = 0.05 }
"""


@pytest.fixture(scope="session")
def server_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    data = tmp_path_factory.mktemp("attacked")
    config = data / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(data, "--config", str(config)) as server:
        with Target(server, server.admin_key, "").http() as admin:
            made = admin.post("/admin/v1/keys", json={"name": "honest"}).json()
        yield Target(server, made["secret"], made["id"])


@pytest.fixture
def target(server_target: Target) -> Iterator[Target]:
    """The server, which must be as well after the attack as before it."""
    yield server_target
    assert server_target.holds_its_invariants()
