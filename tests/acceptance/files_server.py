"""A server on the fake engine, for what people store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI

from acceptance.process import Server, running_server

CONFIG = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
"""


@contextmanager
def files_server(data: Path, *arguments: str, config: str = CONFIG, **variables: str) -> Iterator[Server]:
    """With its data in this folder."""
    file = data / "pileus.toml"
    file.write_text(config)
    with running_server(data, "--config", str(file), *arguments, **variables) as server:
        yield server


def client_of(server: Server) -> OpenAI:
    """The official client, with the first key."""
    return OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0)
