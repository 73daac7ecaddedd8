"""A Hugging Face folder of the Llama family: config.json, tokenizer.json and safetensors. Never pickle, never code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.models.artefact import Generation
from pileus.models.convert.generation import stop_ids
from pileus.models.convert.llama_graph import LlamaShape
from pileus.models.convert.safetensors_file import SafeTensor, read_safetensors
from pileus.models.convert.weights import Dense

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_TYPES = {"F32": (np.float32, ov.Type.f32), "F16": (np.float16, ov.Type.f16), "BF16": (np.uint16, ov.Type.bf16)}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an absent file is an empty one."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelRefused(f"{path.name} is not valid JSON") from error
    if not isinstance(content, dict):
        raise ModelRefused(f"{path.name} is not a JSON object")
    return content


def refuse_code(folder: Path) -> None:
    """A model that brings its own Python code is not run."""
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if "auto_map" in read_json(folder / name):
            raise ModelRefused(f"{name} asks for code that comes with the model (auto_map), which is never run")


def read_shape(config: dict[str, Any]) -> LlamaShape:
    """Raises `ModelRefused` for another architecture, or for one of its variants that the graph does not have."""
    architecture = next(iter(config.get("architectures") or ()), None)
    if architecture not in ARCHITECTURES:
        raise ModelRefused(f"its architecture {architecture!r} is not supported ({', '.join(ARCHITECTURES)} are)")
    _refuse_variants(config)
    heads = _key(config, "num_attention_heads")
    head_size = config.get("head_dim") or _key(config, "hidden_size") // heads
    return LlamaShape(
        layers=_key(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=head_size,
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        inverse_frequencies=_inverse_frequencies(config, head_size),
    )


def _refuse_variants(config: dict[str, Any]) -> None:
    if config.get("quantization_config"):
        raise ModelRefused("its weights are quantised (quantization_config): import the original, or a GGUF")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ModelRefused(f"its activation {config['hidden_act']!r} is not supported (silu is)")
    slides = config.get("use_sliding_window", config["architectures"][0] == "MistralForCausalLM")
    if slides and config.get("sliding_window"):
        raise ModelRefused("it attends to a sliding window, which is not supported")


def _inverse_frequencies(config: dict[str, Any], head_size: int) -> NDArray[np.float32]:
    """Transformers 5 writes `rope_parameters`; before, there were `rope_theta` and `rope_scaling`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    base = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ModelRefused("it rotates a part of each head only, which is not supported")
    frequencies: NDArray[np.float32] = 1.0 / base ** (np.arange(0, head_size, 2, dtype=np.float32) / head_size)
    if kind == "linear":
        frequencies = frequencies / float(_key(rope, "factor"))
    elif kind == "llama3":
        frequencies = _llama3(frequencies, rope)
    elif kind != "default":
        raise ModelRefused(f"its rope type {kind!r} is not supported (default, linear and llama3 are)")
    return frequencies.astype(np.float32)


def _llama3(frequencies: NDArray[np.float32], rope: dict[str, Any]) -> NDArray[np.float32]:
    """Long waves are stretched by the factor, short ones left, those between blended.

    Source: transformers `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    """
    low, high, length = (
        _key(rope, name) for name in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    turns = length * frequencies / (2 * np.pi)
    blend = np.clip((turns - low) / (high - low), 0, 1)
    stretched: NDArray[np.float32] = (1 - blend) * frequencies / _key(rope, "factor") + blend * frequencies
    return stretched


class FolderWeights:
    """The safetensors of a folder, in one file or in shards."""

    def __init__(self, folder: Path) -> None:
        self._tensors: dict[str, SafeTensor] = {}
        for file in _weight_files(folder):
            self._tensors |= read_safetensors(file)

    def settle_head(self, *, tied: bool) -> None:
        """Take the embedding as the output's matrix where they are tied. Raises `ModelRefused` where there is none."""
        if tied:
            self._tensors.pop("lm_head.weight", None)
        elif "lm_head.weight" not in self._tensors:
            raise ModelRefused("lm_head.weight is missing, and config.json does not tie it to the embedding")

    @property
    def size_bytes(self) -> int:
        return sum(tensor.data.nbytes for tensor in self._tensors.values())

    def has(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> list[str]:
        return sorted(self._tensors)

    def dense(self, name: str) -> NDArray[np.float32]:
        """A matrix or a vector in float32."""
        return _float32(self._tensors[name])

    def matrix(self, name: str) -> Dense:
        tensor = self._tensor(name, dimensions=2)
        kind, element = _TYPES[tensor.type]
        return Dense(tensor.data.view(kind).reshape(tensor.shape), element)

    def vector(self, name: str) -> NDArray[np.float32]:
        return _float32(self._tensor(name, dimensions=1))

    def _tensor(self, name: str, dimensions: int) -> SafeTensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelRefused(f"its tensor {name} is missing")
        if tensor.type not in _TYPES:
            raise ModelRefused(f"its tensor {name} is of type {tensor.type}, which is no type of weights")
        if len(tensor.shape) != dimensions:
            raise ModelRefused(f"its tensor {name} has a wrong shape {tensor.shape}")
        return tensor


def _float32(tensor: SafeTensor) -> NDArray[np.float32]:
    if tensor.type == "BF16":
        values = (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = tensor.data.view(_TYPES[tensor.type][0]).astype(np.float32)
    return values.reshape(tensor.shape)


def _weight_files(folder: Path) -> list[Path]:
    index = read_json(folder / "model.safetensors.index.json")
    names = sorted(set(index.get("weight_map", {}).values())) or ["model.safetensors"]
    for name in names:
        if name != Path(name).name:
            raise ModelRefused(f"its index names {name!r}, which is not a file of the folder")
        if not (folder / name).is_file():
            _refuse_pickle(folder)
            raise ModelRefused(f"{name} is missing")
    return [folder / name for name in names]


def _refuse_pickle(folder: Path) -> None:
    pickle = next((file.name for file in sorted(folder.iterdir()) if file.suffix in _PICKLES), None)
    if pickle:
        raise ModelRefused(f"{pickle} is a pickle, which can run code when it is read: save the model as safetensors")


def is_pickle(file: Path) -> bool:
    return file.suffix in _PICKLES


def read_generation(folder: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> Generation:
    """When to stop and where to begin, from the folder's several configurations."""
    token_config = read_json(folder / "tokenizer_config.json")
    generation_config = read_json(folder / "generation_config.json")
    vocabulary = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    bos, eos = _token_text(token_config.get("bos_token")), _token_text(token_config.get("eos_token"))
    named = [_as_list(source.get("eos_token_id")) for source in (generation_config, config)]
    named.append([vocabulary[eos]] if eos in vocabulary else [])
    return Generation(
        architecture=config["model_type"],
        context_length=_key(config, "max_position_embeddings"),
        vocab_size=_key(config, "vocab_size"),
        stop_ids=stop_ids([index for ids in named for index in ids], vocabulary),
        bos_id=vocabulary.get(bos),
        bos_token=bos,
        eos_token=eos,
    )


def read_template(folder: Path) -> str | None:
    """The chat template: a file of its own, or a field of tokenizer_config.json (of several, the default)."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text()
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
    return template


def _token_text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def _as_list(ids: Any) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _key(config: dict[str, Any], name: str) -> Any:
    try:
        return config[name]
    except KeyError:
        raise ModelRefused(f"its configuration lacks {name}") from None
