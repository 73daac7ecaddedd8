"""Where each token of a text looks, in each head of each layer: from the very graph that is served.

The graph's attention operations are given further results, their queries and keys, and what softmax makes of these is
computed here. So it works for every artefact that has such operations, without its original weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.evaluation.attention_records import MOST_TOKENS, AttentionMap, AttentionResult, AttentionSpec
from pileus.evaluation.foreseeing import Loader
from pileus.evaluation.worked import steps, work
from pileus.models.artefact import ENCODING, MODEL_XML, TOKENIZER
from pileus.models.tokenizer_file import open_tokenizer

Floats = NDArray[np.float64]

_EXACT: Final = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
_ATTENTION: Final = "ScaledDotProductAttention"


class Attention(Struct, frozen=True):
    """The weights of a text."""

    tokens: tuple[str, ...]
    weights: Floats  # (layers, heads, tokens that look, tokens that are looked at); each row sums to 1


def attend(load: Loader, folder: Path, text: str) -> Attention:
    """A generator looks back only; an encoder at all tokens, also at those that stand around the text. Raises
    `ModelRefused` where the graph has no attention operation, `ValueError` for a text that is too long."""
    encodes = (folder / ENCODING).is_file()
    ids, tokens = _read_whole(folder, text) if encodes else _read(load, folder, text)
    if not 1 <= len(ids) <= MOST_TOKENS:
        raise ValueError(f"the text has {len(ids)} tokens: 1 to {MOST_TOKENS} can be shown")
    pairs = _queries_and_keys(folder, ids)
    weights = np.stack([softmax_rows(_scores(query, key, looks_back=not encodes)) for query, key in pairs])
    return Attention(tokens, weights)


def explain(load: Loader, folder: Path, spec: AttentionSpec) -> AttentionResult:
    """The maps that were asked for. Raises as `attend`."""
    found = attend(load, folder, spec.text)
    layers, heads = found.weights.shape[:2]
    chosen = [(x, y) for x in spec.layers or range(layers) for y in spec.heads or range(heads)]
    beyond = [pair for pair in chosen if pair[0] >= layers or pair[1] >= heads]
    if beyond:
        raise ValueError(f"{spec.model} has {layers} layers of {heads} heads; they count from 0 on")
    maps = [AttentionMap(x, y, np.rint(found.weights[x, y] * 255).astype(np.uint8).tobytes()) for x, y in chosen]
    return AttentionResult(
        model=spec.model, tokens=found.tokens, layers=layers, heads=heads, maps=tuple(maps), example=steps(work())
    )


def softmax_rows(scores: Floats) -> Floats:
    """Over the last axis. What is minus infinity gets 0."""
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    rows: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return rows


def _read(load: Loader, folder: Path, text: str) -> tuple[list[int], tuple[str, ...]]:
    tokenizer = load(folder)
    ids = tokenizer.encode(text)
    return ids, tuple(tokenizer.token_text(token)[0] for token in ids)


def _read_whole(folder: Path, text: str) -> tuple[list[int], tuple[str, ...]]:
    """With the special tokens that an encoder has around a text."""
    found = open_tokenizer(folder / TOKENIZER).encode(text)
    return found.ids, tuple(found.tokens)


def _scores(query: Floats, key: Floats, *, looks_back: bool) -> Floats:
    """(heads, tokens, tokens): scaled products; where only what came before is looked at, minus infinity for the
    rest."""
    tokens, size = query.shape[-2:]
    if len(key) < len(query):  # grouped queries share keys
        key = np.repeat(key, len(query) // len(key), axis=0)
    products = query @ key.swapaxes(-1, -2) / np.sqrt(size)
    later = np.triu(np.full((tokens, tokens), looks_back), k=1)
    scores: Floats = np.where(later, -np.inf, products)
    return scores


def _queries_and_keys(folder: Path, ids: Sequence[int]) -> list[tuple[Floats, Floats]]:
    """Of each layer, (heads, tokens, size of a head)."""
    core = ov.Core()
    model = core.read_model(folder / MODEL_XML)
    operations = [node for node in model.get_ordered_ops() if node.get_type_name() == _ATTENTION]
    if not operations:
        raise ModelRefused(f"{folder.name} has no attention operation that could be shown")
    taken = [ops.result(node.input_value(place)) for node in operations for place in (0, 1)]
    model.add_results(taken)
    request = core.compile_model(model, "CPU", _EXACT).create_infer_request()
    request.infer(_inputs(model, ids))
    first = len(model.outputs) - len(taken)
    values = [request.get_output_tensor(first + number).data[0].astype(np.float64) for number in range(len(taken))]
    return list(zip(values[::2], values[1::2], strict=True))


def _inputs(model: ov.Model, ids: Sequence[int]) -> dict[str, Any]:
    values = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "token_type_ids": np.zeros((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    return {name: values[name] for name in (port.any_name for port in model.inputs) if name in values}
