"""Encoders: from a folder to an artefact, and the graph held against Transformers."""

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from made_encoders import LABELS, LAYERS, LONGEST, WIDTH, WORDS, config_of, write_bert
from pileus.config.settings import Models
from pileus.core.errors import ModelRefused
from pileus.core.records import Pooling, Task
from pileus.models.artefact import Kind, verify
from pileus.models.catalogue import Catalogue
from pileus.models.convert.dispatch import convert
from pileus.models.encoder_tokenizer import load_text_encoder
from pileus.models.progress import silent
from pileus.models.tokenizer_file import open_tokenizer

IDS = np.array([[2, 5, 6, 8, 9, 3], [2, 7, 3, 0, 0, 0]])
ATTENDED = (IDS > 0).astype(np.int64)
TYPES = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]])


def converted(source: Path, folder: Path) -> Path:
    folder.mkdir()
    convert(source, folder, silent)
    return folder


def run(folder: Path) -> Any:
    model = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model({"input_ids": IDS, "attention_mask": ATTENDED, "token_type_ids": TYPES})


@pytest.mark.parametrize("labels", [(), LABELS, ("relevance",)], ids=["vectors", "labels", "score"])
def test_the_graph_computes_what_transformers_does(tmp_path: Path, labels: tuple[str, ...]) -> None:
    torch = pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")
    transformers = pytest.importorskip("transformers", reason="the `train` extra is not installed: `make extras`")
    source = write_bert(tmp_path / "bert", labels)
    kind = transformers.BertForSequenceClassification if labels else transformers.BertModel
    reference = kind.from_pretrained(source, dtype=torch.float32).eval()
    found = run(converted(source, tmp_path / "out"))
    given = {"input_ids": IDS, "attention_mask": ATTENDED, "token_type_ids": TYPES}
    with torch.no_grad():
        told = reference(**{name: torch.tensor(value) for name, value in given.items()}, output_hidden_states=True)
    expected = told.hidden_states[-1].numpy() * ATTENDED[..., None]
    assert np.abs(found["last_hidden_state"] * ATTENDED[..., None] - expected).max() < 1e-5
    if labels:
        assert np.abs(found["logits"] - told.logits.numpy()).max() < 1e-5


def test_each_layer_can_be_told_by_its_name(tmp_path: Path) -> None:
    model = ov.Core().read_model(converted(write_bert(tmp_path / "bert"), tmp_path / "out") / "openvino_model.xml")
    names = {name for node in model.get_ops() for output in node.outputs() for name in output.get_names()}
    assert {f"hidden.{layer}" for layer in range(LAYERS + 1)} <= names


def test_an_imported_encoder_tells_what_it_is(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "models", Models())
    artefact = catalogue.import_folder(write_bert(tmp_path / "bert", LABELS), "moods")
    encoding = verify(artefact.path).encoding
    assert encoding is not None
    assert (encoding.task, encoding.labels, encoding.activation) == (Task.CLASSIFY, LABELS, "softmax")
    entry = catalogue.show("moods")
    assert (entry.kind, entry.context_length, entry.summary) == (Kind.ENCODER, LONGEST, "imported, bert")


def test_pooling_and_length_are_what_sentence_transformers_wrote(tmp_path: Path) -> None:
    source = write_bert(tmp_path / "bert")
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""},
               {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]  # fmt: skip
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    artefact = Catalogue(tmp_path / "models", Models()).import_folder(source, "sentences")
    assert artefact.encoding is not None
    assert artefact.encoding.pooling is Pooling.CLS
    assert not artefact.encoding.normalise
    assert artefact.encoding.max_length == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_act": "swish"}, "activation 'swish'"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"num_hidden_layers": LAYERS + 1}, "is missing"),
        ({"num_attention_heads": 5}, "no multiple"),
        ({"hidden_size": 16}, "do not fit together"),
        ({"auto_map": {"AutoModel": "x.py"}}, "never run"),
    ],
)
def test_a_variant_that_the_graph_does_not_have_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    source = write_bert(tmp_path / "bert")
    (source / "config.json").write_text(json.dumps(config_of() | change))
    with pytest.raises(ModelRefused, match=reason):
        converted(source, tmp_path / "out")


@pytest.mark.parametrize("path", ["../1_Pooling", "/etc"])
def test_modules_outside_the_folder_are_not_read(tmp_path: Path, path: str) -> None:
    source = write_bert(tmp_path / "bert")
    (source / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling", "path": path}]))
    with pytest.raises(ModelRefused, match="not a folder of the model's"):
        converted(source, tmp_path / "out")


def test_special_tokens_stand_around_a_text_and_never_in_it(tmp_path: Path) -> None:
    model = load_text_encoder(converted(write_bert(tmp_path / "bert"), tmp_path / "out"))
    plain, hostile = model.encode(["the sun", "the [SEP] sun"])
    assert plain == [2, 5, 6, 3]
    assert hostile.count(WORDS.index("[SEP]")) == 1
    assert len(model.encode(["sun " * 20])[0]) == 22  # the folder's own truncation is not applied
    assert model.encode_pairs("the sun", ["rain"]) == [([2, 5, 6, 3, 7, 3], 4)]
    assert model.shorten([2, 5, 6, 7, 3], 4) == [2, 5, 6, 3]
    assert array("I", plain).itemsize == 4
    assert model.encoding.hidden_size == WIDTH


@pytest.mark.parametrize("first", [None, "the sun is warm"])
def test_a_frame_is_what_stands_around_every_text(tmp_path: Path, first: str | None) -> None:
    encoder = load_text_encoder(converted(write_bert(tmp_path / "bert"), tmp_path / "out"))
    frame = encoder.frame(first)
    for text in ("rain", "the rain is cold ?"):
        whole, second = (encoder.encode([text])[0], 1) if first is None else encoder.encode_pairs(first, [text])[0]
        own = encoder.encode([text])[0][1:-1]
        assert whole == [*frame.before, *own, *frame.after]
        assert len(frame.before) == second


@pytest.mark.parametrize("content", ["", "no JSON", "{}", '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer_is_refused_by_its_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelRefused, match=r"tokenizer\.json is no tokenizer\.json that can be read"):
        load_text_encoder(tmp_path)
    with pytest.raises(ModelRefused):
        open_tokenizer(tmp_path / "absent.json")
