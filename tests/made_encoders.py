"""Tiny BERTs for tests: a vocabulary of a few words, two layers of random weights, as Hugging Face folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sun", "rain", "is", "warm", "cold", "good", "bad", "?"]
WIDTH, INNER, LAYERS, HEADS, LONGEST = 32, 48, 2, 4, 24
LABELS = ("sad", "glad", "calm")


def tokenizer_content() -> dict[str, Any]:
    """The content of a tokenizer.json: WordPiece over `WORDS`, with BERT's special tokens around each text."""
    special = [
        {"id": id_, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for id_, word in enumerate(WORDS[:5])
    ]  # fmt: skip

    def piece(kind: str, name: str, type_id: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": type_id}}

    begin, first, end = piece("SpecialToken", "[CLS]", 0), piece("Sequence", "A", 0), piece("SpecialToken", "[SEP]", 0)
    second = [piece("Sequence", "B", 1), piece("SpecialToken", "[SEP]", 1)]
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, first, end],
            "pair": [begin, first, end, *second],
            "special_tokens": {
                word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]} for word in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: id_ for id_, word in enumerate(WORDS)}},
    }  # fmt: skip


def config_of(architecture: str = "BertModel", labels: tuple[str, ...] = ()) -> dict[str, Any]:
    config = {
        "architectures": [architecture],
        "model_type": "bert",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": LONGEST,
        "type_vocab_size": 2,
        "vocab_size": len(WORDS),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    return config | ({"id2label": {str(id_): label for id_, label in enumerate(labels)}} if labels else {})


def write_bert(folder: Path, labels: tuple[str, ...] = (), seed: int = 0) -> Path:
    """A folder with a BERT; with labels, one that classifies, or with one label one that ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of("BertForSequenceClassification" if labels else "BertModel", labels)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_content()))
    write_safetensors(folder / "model.safetensors", _weights(labels, seed))
    return folder


def _weights(labels: tuple[str, ...], seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (LONGEST, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        linear = {f"attention.self.{kind}": (WIDTH, WIDTH) for kind in ("query", "key", "value")}
        linear |= {"attention.output.dense": (WIDTH, WIDTH)}
        linear |= {"intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}
        for each, shape in linear.items():
            shapes |= {f"{name}.{each}.weight": shape, f"{name}.{each}.bias": shape[:1]}
        for each in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{name}.{each}.weight": (WIDTH,), f"{name}.{each}.bias": (WIDTH,)}
    if labels:
        shapes |= {"pooler.dense.weight": (WIDTH, WIDTH), "pooler.dense.bias": (WIDTH,)}
    made: dict[str, NDArray[Any]] = {
        ("bert." if labels else "") + name: (random.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in shapes.items()
    }
    if labels:
        made["classifier.weight"] = random.standard_normal((len(labels), WIDTH)).astype(np.float32)
        made["classifier.bias"] = random.standard_normal(len(labels)).astype(np.float32)
    else:
        made["embeddings.position_ids"] = np.arange(LONGEST)[None]  # as older folders have them
    return made


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}
    header, at = {}, 0
    for name, tensor in tensors.items():
        end = at + tensor.nbytes
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + b"".join(t.tobytes() for t in tensors.values()))
