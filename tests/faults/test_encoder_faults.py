"""FAULTS 1 for encoders, and what people may send them: real processes, the official client."""

import base64
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI

from acceptance.process import Server, running_server
from faults.test_replica_faults import eventually
from pileus.core.records import EncodeOutput
from pileus.testing.fake_encoder import fake_vector
from pileus.testing.text_encoder import END, START

CONFIG = """
[[deployment]]
name = "texts"
model = "fake-encoder"
engine = "fake_encoder"
replicas = 2
options = { step_s = 0.05 }
price = { prompt = 1000000 }

[[deployment]]
name = "speaker"
model = "fake"
engine = "fake"
"""
TEXTS = [f"text number {number}" for number in range(60)]


@pytest.fixture(scope="module", params=[1, 2], ids=["one gateway", "two gateways"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("encoders")
    config = data / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(data, "--config", str(config), "--gateways", str(request.param)) as server:
        yield server


@pytest.fixture
def client(house: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{house.base_url}/v1", api_key=house.admin_key, max_retries=0) as client:
        yield client


def expected(text: str, dimensions: int = 0) -> Any:
    ids = np.array([START, *text.encode(), END], np.uint32)
    return fake_vector(ids, EncodeOutput(normalise=True, dimensions=dimensions))


def replicas(house: Server) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {house.admin_key}"}
    status = httpx.get(f"{house.base_url}/admin/v1/status", headers=headers, trust_env=False).json()
    [found] = [each for each in status["deployments"] if each["name"] == "texts"]
    return list(found["replicas"])


def both_are_ready(house: Server) -> bool:
    return [each["state"] for each in replicas(house)] == ["ready", "ready"]


def post(house: Server, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {house.admin_key}"}
    return httpx.post(f"{house.base_url}{path}", json=body, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_the_official_client_gets_its_vectors(client: OpenAI, encoding_format: Any) -> None:
    answer = client.embeddings.create(model="texts", input=TEXTS[:3], encoding_format=encoding_format, dimensions=6)
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == sum(len(text) + 2 for text in TEXTS[:3])
    for text, each in zip(TEXTS, answer.data, strict=False):
        numbers: Any = each.embedding
        if isinstance(numbers, str):
            numbers = np.frombuffer(base64.b64decode(numbers), "<f4")
        assert np.allclose(numbers, expected(text, 6), atol=1e-6)


def test_token_ids_are_texts_too(client: OpenAI) -> None:
    ids = [START, *b"hello", END]
    one = client.embeddings.create(model="texts", input=ids).data[0].embedding
    two = client.embeddings.create(model="texts", input=[ids, ids]).data
    said = client.embeddings.create(model="texts", input="hello").data[0].embedding
    assert one == said == two[0].embedding == two[1].embedding


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/v1/embeddings", {"model": "texts", "input": ""}, 400, "input"),
        ("/v1/embeddings", {"model": "texts", "input": []}, 400, "input"),
        ("/v1/embeddings", {"model": "texts", "input": [[1, 99_999]]}, 400, "99999"),
        ("/v1/embeddings", {"model": "texts", "input": ["a"] * 2049}, 400, "2048"),
        ("/v1/embeddings", {"model": "texts", "input": "x" * 600}, 400, "512"),
        ("/v1/embeddings", {"model": "texts", "input": "x", "dimensions": 17}, 400, "dimensions"),
        ("/v1/embeddings", {"model": "texts", "input": "x", "dimensions": 0}, 400, "dimensions"),
        ("/v1/embeddings", {"model": "texts", "input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
        ("/v1/embeddings", {"model": "texts", "input": "x", "pickle": "gASV"}, 400, "pickle"),
        ("/v1/embeddings", {"model": "speaker", "input": "x"}, 400, "no encoder"),
        ("/v1/chat/completions", {"model": "texts", "messages": [{"role": "user", "content": "x"}]}, 400, "encoder"),
        ("/v1/completions", {"model": "texts", "prompt": "x"}, 400, "encoder"),
        ("/v1/classify", {"model": "texts", "input": "x"}, 400, "/v1/embeddings"),
        ("/v1/rerank", {"model": "texts", "query": "x", "documents": ["y"]}, 400, "/v1/embeddings"),
        ("/v1/features", {"model": "texts", "input": "x", "layer": 7}, 400, "layer"),
        ("/v1/embeddings", {"model": "absent", "input": "x"}, 404, "absent"),
    ],
)
def test_what_cannot_be_done_is_said(house: Server, path: str, body: Any, status: int, word: str) -> None:
    answer = post(house, path, **body)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["error"]["message"]


def test_a_long_text_is_cut_where_that_is_asked_for(house: Server) -> None:
    answer = post(house, "/v1/embeddings", model="texts", input="x" * 600, truncate_prompt_tokens=-1).json()
    assert answer["usage"]["prompt_tokens"] == 512


def test_features_are_given_token_by_token(house: Server) -> None:
    [found] = post(house, "/v1/features", model="texts", input="sun", layer=1).json()["data"]
    assert found["shape"] == [5, 16]
    assert np.array(found["features"]).shape == (5, 16)
    [pooled] = post(house, "/v1/features", model="texts", input="sun", layer=1, pooling="mean").json()["data"]
    assert np.allclose(np.mean(found["features"], axis=0), pooled["features"][0], atol=1e-6)


@pytest.mark.fault("1, encoders", "SIGKILL a replica while it encodes", "every text has its vector")
def test_a_killed_replica_loses_no_text(house: Server, client: OpenAI) -> None:
    eventually(lambda: both_are_ready(house), 60.0)
    victims = replicas(house)

    def ask(_: int) -> Any:
        return client.embeddings.with_raw_response.create(model="texts", input=TEXTS)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(4)]
        # The figures come twice a second, and it takes three of them to answer.
        eventually(lambda: any(each["running"] for each in replicas(house)))
        os.kill(victims[0]["pid"], signal.SIGKILL)
        answers = [each.result() for each in asked]
    for raw in answers:
        found = raw.parse()
        assert found.usage.prompt_tokens == sum(len(text) + 2 for text in TEXTS)
        for text, each in zip(TEXTS, found.data, strict=True):
            assert np.allclose(each.embedding, expected(text), atol=1e-6)
