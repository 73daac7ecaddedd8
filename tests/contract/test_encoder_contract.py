"""What every encoder must do, held against the driver on a tiny BERT and against the fake."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from made_encoders import write_bert
from pileus.config.settings import Models
from pileus.core.ports import Encoder, EngineSpec
from pileus.core.records import EncodeOutput, EncodeRequest, Finish, FinishReason, Lane, Pooling
from pileus.engines.encoder import DRIVER
from pileus.engines.encoder.options import EncoderOptions
from pileus.models.catalogue import Catalogue
from pileus.testing.fake_encoder import FakeEncoder

VECTOR = EncodeOutput(normalise=True)
Open = Callable[[], Encoder]


def packed(*ids: int) -> bytes:
    return array("I", ids).tobytes()


TEXTS = tuple(packed(2, *range(5, 5 + length), 3) for length in (1, 7, 3, 2, 5))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoders")
    return Catalogue(root / "models", Models()).import_folder(write_bert(root / "bert"), "tiny").path


@pytest.fixture(params=["encoder", "fake"])
def open_encoder(request: pytest.FixtureRequest, bert: Path) -> Open:
    if request.param == "fake":
        return FakeEncoder
    options = EncoderOptions(threads=1, step_tokens=32, max_requests=4, queue_tokens=1024)
    driver = DRIVER.open(EngineSpec("tiny", bert, options))
    return lambda: driver  # type: ignore[return-value]  # a driver opens either kind


@pytest.fixture
def encoder(open_encoder: Open) -> Iterator[Encoder]:
    encoder = open_encoder()
    yield encoder
    encoder.close()


@dataclass
class Heard:
    """All that was said until so many requests had ended."""

    values: dict[int, dict[int, bytes]] = field(default_factory=dict)
    finishes: dict[int, Finish] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)


def run(encoder: Encoder, *requests: EncodeRequest) -> Heard:
    for request in requests:
        encoder.submit(request)
    return listen(encoder, len(requests))


def listen(encoder: Encoder, count: int) -> Heard:
    heard = Heard()
    for output in encoder.events():
        heard.started += [started.request for started in output.started]
        for encoded in output.encoded:
            assert encoded.request in heard.started
            assert encoded.request not in heard.finishes
            found = heard.values.setdefault(encoded.request, {})
            assert not found.keys() & set(encoded.places), "a text was answered twice"
            found.update(zip(encoded.places, encoded.values, strict=True))
        for finish in output.finishes:
            assert finish.request not in heard.finishes, "it ended twice"
            heard.finishes[finish.request] = finish
        if len(heard.finishes) == count:
            break
    return heard


def vectors(heard: Heard, request: int) -> np.ndarray:
    values = heard.values[request]
    return np.array([np.frombuffer(values[place], "<f4") for place in sorted(values)])


def test_every_text_has_its_vector_before_the_one_finish(encoder: Encoder) -> None:
    heard = run(encoder, EncodeRequest(1, TEXTS, VECTOR))
    assert heard.finishes[1].reason is FinishReason.STOP
    found = vectors(heard, 1)
    assert len(found) == len(TEXTS)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert heard.started == [1]


def test_a_vector_is_the_texts_own_whoever_shares_the_step(encoder: Encoder) -> None:
    together = vectors(run(encoder, EncodeRequest(1, TEXTS, VECTOR), EncodeRequest(2, TEXTS[:2], VECTOR)), 1)
    for place, text in enumerate(TEXTS):
        alone = vectors(run(encoder, EncodeRequest(10 + place, (text,), VECTOR)), 10 + place)
        assert 1 - float(alone[0] @ together[place]) < 1e-6


def test_a_vector_can_be_cut_and_tokens_can_be_had(encoder: Encoder) -> None:
    cut = EncodeOutput(normalise=True, dimensions=5)
    tokens = EncodeOutput(pooling=Pooling.TOKENS)
    heard = run(encoder, EncodeRequest(1, TEXTS, cut), EncodeRequest(2, TEXTS, tokens))
    assert vectors(heard, 1).shape == (len(TEXTS), 5)
    assert np.allclose(np.linalg.norm(vectors(heard, 1), axis=1), 1, atol=1e-5)
    width = len(vectors(run(encoder, EncodeRequest(3, TEXTS[:1], VECTOR)), 3)[0])
    assert [len(heard.values[2][place]) // (4 * width) for place in range(len(TEXTS))] == [
        len(text) // 4 for text in TEXTS
    ]


def test_what_cannot_be_run_ends_with_an_error_and_harms_nobody(encoder: Encoder) -> None:
    far = packed(2, 1_000_000, 3)
    long = packed(*[2] * (encoder.capabilities().max_context + 1))
    heard = run(
        encoder,
        EncodeRequest(1, (), VECTOR),
        EncodeRequest(2, (far,), VECTOR),
        EncodeRequest(3, (long,), VECTOR),
        EncodeRequest(4, (b"",), VECTOR),
        EncodeRequest(5, TEXTS, VECTOR),
    )
    assert [heard.finishes[number].reason for number in range(1, 5)] == [FinishReason.ERROR] * 4
    assert all(heard.finishes[number].error for number in range(1, 5))
    assert heard.finishes[5].reason is FinishReason.STOP


def test_a_cancelled_request_ends_once_and_gives_its_room_back(encoder: Encoder) -> None:
    encoder.submit(EncodeRequest(1, TEXTS, VECTOR))
    encoder.cancel(1)
    encoder.cancel(99)
    heard = listen(encoder, 1)
    assert heard.finishes[1].reason is FinishReason.CANCELLED
    assert heard.values == {}


def test_credit_counts_what_was_taken_on_and_comes_back_whole(encoder: Encoder) -> None:
    capabilities = encoder.capabilities()
    assert capabilities.encoder
    encoder.submit(EncodeRequest(1, TEXTS, VECTOR, lane=Lane.BATCH))
    encoder.submit(EncodeRequest(2, TEXTS, VECTOR))
    last = None
    ended = 0
    for output in encoder.events():
        ended += len(output.finishes)
        last = output.credit
        assert last.seen == 2
        if ended == 2:
            break
    assert last is not None
    assert (last.slots, last.kv_blocks) == (capabilities.slots, capabilities.kv_blocks)
    assert (last.batch_slots, last.batch_kv_blocks) == (0, 0)
    assert encoder.stats().prompt_tokens == 2 * sum(len(text) // 4 for text in TEXTS)


def test_weights_of_8_bits_change_vectors_little(bert: Path) -> None:
    found = []
    for weights in ("as_is", "int8"):
        options = EncoderOptions.model_validate({"threads": 1, "weights": weights})
        encoder = DRIVER.open(EngineSpec("tiny", bert, options))
        found.append(vectors(run(encoder, EncodeRequest(1, TEXTS, VECTOR)), 1))  # type: ignore[arg-type]
        encoder.close()
    off = 1 - (found[0] * found[1]).sum(axis=1)
    assert 1e-7 < off.max() < 0.01
