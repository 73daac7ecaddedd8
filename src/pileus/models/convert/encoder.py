"""Encoders: Hugging Face folders of the BERT family, as Transformers and Sentence Transformers write them, and ONNX
files, read by OpenVINO itself.

What a folder says of itself: `config.json` the architecture and the labels, `modules.json` and what it names how
embeddings are pooled, `sentence_bert_config.json` the longest text. An `encoding.json` in it overrules them all, for
files that say nothing.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
import openvino as ov

from pileus.core.errors import ModelRefused
from pileus.core.records import Encoding, Pooling, Task
from pileus.models.artefact import ENCODING, read_encoding
from pileus.models.convert import bert_graph, openvino_ir
from pileus.models.convert.bert_graph import BertShape
from pileus.models.convert.huggingface import FolderWeights, read_json
from pileus.models.progress import Progress

CLASSIFIER = "BertForSequenceClassification"
# Of the others the head is dropped: they give vectors.
ARCHITECTURES = (CLASSIFIER, "BertModel", "BertForMaskedLM", "BertForPreTraining")

ONNX = "model.onnx"
_INPUTS = {"input_ids", "attention_mask"}
_OUTPUTS = ("last_hidden_state", "logits")


def is_encoder(source: Path, config: dict[str, Any]) -> bool:
    """Whether a folder holds one, as far as its names tell."""
    return (source / ONNX).exists() or bool(set(config.get("architectures") or ()) & set(ARCHITECTURES))


def convert_folder(source: Path, config: dict[str, Any], folder: Path, progress: Progress) -> Encoding:
    """Write the graph of a folder with safetensors. Raises `ModelRefused` with the reason."""
    weights = FolderWeights(source)
    encoding, shape = read_encoder(source, config, weights)
    openvino_ir.write(bert_graph.build(shape, weights, progress), folder, weights.size_bytes, progress)
    return encoding


def convert_onnx(source: Path, config: dict[str, Any], folder: Path, progress: Progress) -> Encoding:
    """Write the graph of an ONNX file. Raises `ModelRefused` with the reason."""
    try:
        model = ov.Core().read_model(source / ONNX)
    except RuntimeError as error:
        raise ModelRefused(f"{ONNX} cannot be read: {str(error).strip().splitlines()[-1]}") from error
    inputs = {name for port in model.inputs for name in port.get_names()}
    if missing := sorted(_INPUTS - inputs):
        raise ModelRefused(f"{ONNX} has no input {', '.join(missing)}")
    outputs = {name for port in model.outputs for name in port.get_names()}
    if not outputs.intersection(_OUTPUTS):
        raise ModelRefused(
            f"{ONNX} should have the output {' or '.join(_OUTPUTS)}; it has {', '.join(sorted(outputs))}"
        )
    openvino_ir.write(model, folder, (source / ONNX).stat().st_size, progress)
    if (source / ENCODING).exists():
        return read_encoding(source)
    encoding = _encoding(source, config, classifier="logits" in outputs)
    return msgspec.structs.replace(encoding, layers=0, features="last_hidden_state" in outputs)


def read_encoder(source: Path, config: dict[str, Any], weights: FolderWeights) -> tuple[Encoding, BertShape]:
    """What a folder's configuration says. Raises `ModelRefused` for a variant that the graph does not have."""
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelRefused(f"its positions are {config['position_embedding_type']!r}, which is not supported")
    activation = config.get("hidden_act", "gelu")
    if activation not in bert_graph.ACTIVATIONS:
        raise ModelRefused(f"its activation {activation!r} is not supported ({', '.join(bert_graph.ACTIVATIONS)} are)")
    heads, hidden_size = _key(config, "num_attention_heads"), _key(config, "hidden_size")
    if heads < 1 or hidden_size % heads:
        raise ModelRefused(f"its hidden size of {hidden_size} is no multiple of its {heads} heads")
    classifier = CLASSIFIER in (config.get("architectures") or ())
    shape = BertShape(
        layers=_key(config, "num_hidden_layers"),
        heads=heads,
        hidden_size=hidden_size,
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        activation=activation,
        classifier=classifier,
        prefix="bert." if weights.has("bert.embeddings.word_embeddings.weight") else "",
    )
    if (source / ENCODING).exists():
        return read_encoding(source), shape
    return _encoding(source, config, classifier=classifier), shape


def _encoding(source: Path, config: dict[str, Any], *, classifier: bool) -> Encoding:
    longest = _key(config, "max_position_embeddings")
    told = read_json(source / "sentence_bert_config.json").get("max_seq_length")
    labels = _labels(config) if classifier else ()
    task = Task.EMBED if not classifier else Task.RERANK if len(labels) == 1 else Task.CLASSIFY
    pooling, normalise = _pooling(source)
    return Encoding(
        architecture=config.get("model_type", "bert"),
        task=task,
        hidden_size=_key(config, "hidden_size"),
        max_length=min(longest, told) if isinstance(told, int) and told > 0 else longest,
        vocab_size=_key(config, "vocab_size"),
        layers=_key(config, "num_hidden_layers"),
        pooling=pooling,
        normalise=normalise,
        labels=labels,
        activation=_activation(config, task),
    )


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    """By their numbers; Transformers writes the numbers as strings, and no labels at all where there are two."""
    named = config.get("id2label") or {}
    count = len(named) or config.get("num_labels") or 2
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))


def _activation(config: dict[str, Any], task: Task) -> Literal["softmax", "sigmoid", "none"]:
    if task is Task.EMBED:
        return "none"
    several = config.get("problem_type") == "multi_label_classification"
    return "sigmoid" if several or task is Task.RERANK else "softmax"


def _pooling(source: Path) -> tuple[Pooling, bool]:
    """As `modules.json` of Sentence Transformers tells; else the mean, normalised."""
    file = source / "modules.json"
    if not file.exists():
        return Pooling.MEAN, True
    try:
        modules = msgspec.json.decode(file.read_bytes(), type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise ModelRefused(f"modules.json is malformed ({error})") from error
    kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
    if unknown := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise ModelRefused(f"modules.json asks for {', '.join(unknown)}, which is not supported")
    return _pooling_of(source, kinds.get("Pooling", "")), "Normalize" in kinds


def _pooling_of(source: Path, path: str) -> Pooling:
    if path != Path(path).name:
        raise ModelRefused(f"modules.json names {path!r}, which is not a folder of the model's")
    if path and not (source / path / "config.json").is_file():
        raise ModelRefused(f"modules.json asks for pooling, and {path}/config.json, which says how, is missing")
    config = read_json(source / path / "config.json") if path else {}
    modes = {
        name.removeprefix("pooling_mode_") for name, on in config.items() if name.startswith("pooling_mode_") and on
    }
    if isinstance(config.get("pooling_mode"), str):  # as later versions write it
        modes = {config["pooling_mode"]}
    known = {"mean_tokens": Pooling.MEAN, "cls_token": Pooling.CLS, "max_tokens": Pooling.MAX}
    known |= {str(pooling): pooling for pooling in (Pooling.MEAN, Pooling.CLS, Pooling.MAX)}
    if len(modes) > 1 or not modes <= known.keys():
        raise ModelRefused(f"its pooling {', '.join(sorted(modes))} is not supported (mean, cls and max are)")
    return known[modes.pop()] if modes else Pooling.MEAN


def _key(config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise ModelRefused(f"its configuration lacks {name}")
    return value
