"""Random adapters, written as PEFT writes them, without PEFT."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileus.models.artefact import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pileus.models.low_rank import TARGETS

Arrays = dict[str, NDArray[np.float32]]
Sizes = Mapping[str, tuple[int, int]]  # what a target takes and gives

# Of `reference_models.save_reference`.
TINY: Sizes = {
    "q_proj": (64, 64),
    "k_proj": (64, 32),
    "v_proj": (64, 32),
    "o_proj": (64, 64),
    "gate_proj": (64, 96),
    "up_proj": (64, 96),
    "down_proj": (96, 64),
}
SMOLLM2: Sizes = {
    "q_proj": (576, 576),
    "k_proj": (576, 192),
    "v_proj": (576, 192),
    "o_proj": (576, 576),
    "gate_proj": (576, 1536),
    "up_proj": (576, 1536),
    "down_proj": (1536, 576),
}


def tensor_name(layer: int, target: str, half: str) -> str:
    block = "self_attn" if target in TARGETS[:4] else "mlp"
    return f"base_model.model.model.layers.{layer}.{block}.{target}.lora_{half}.weight"


def random_tensors(
    seed: int, rank: int, targets: Sequence[str] = TARGETS, layers: int = 2, sizes: Sizes = TINY, size: float = 0.3
) -> Arrays:
    """Both halves for each target of each layer."""
    draw = np.random.default_rng(seed)
    tensors: Arrays = {}
    for layer in range(layers):
        for target in targets:
            width, out = sizes[target]
            tensors[tensor_name(layer, target, "A")] = draw.normal(0, size, (rank, width)).astype(np.float32)
            tensors[tensor_name(layer, target, "B")] = draw.normal(0, size, (out, rank)).astype(np.float32)
    return tensors


def write_safetensors(path: Path, tensors: Arrays) -> None:
    header: dict[str, Any] = {}
    body = b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        kind = {"float32": "F32", "float16": "F16"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + body)


def write_adapter(folder: Path, tensors: Arrays, rank: int, **config: Any) -> Path:
    """A folder as PEFT's `save_pretrained` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "task_type": "CAUSAL_LM", "lora_dropout": 0.1}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(said | config))
    write_safetensors(folder / ADAPTER_WEIGHTS, tensors)
    return folder


def merged(weights: Arrays, tensors: Arrays, scale: float = 2.0) -> Arrays:
    """A model's weights, under Hugging Face's names, with the adapter in them."""
    changed = dict(weights)
    for name, a in tensors.items():
        if ".lora_A." in name:
            b = tensors[name.replace(".lora_A.", ".lora_B.")]
            target = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
            changed[target] = weights[target] + scale * (b @ a)
    return changed
