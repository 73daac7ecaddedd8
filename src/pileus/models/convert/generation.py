"""What a GGUF says about generating text: when to stop, where to begin, how far the context goes."""

from collections.abc import Mapping
from typing import Any

from pileus.core.errors import ModelRefused
from pileus.models.artefact import Generation

# Tokens that end a turn or a text, whatever the metadata calls the end; the set that llama.cpp looks for too.
_ENDINGS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<EOT>", "</s>",
)  # fmt: skip


def from_gguf(metadata: dict[str, Any]) -> Generation:
    architecture = metadata["general.architecture"]
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    context_length = metadata.get(f"{architecture}.context_length")
    if not isinstance(context_length, int):
        raise ModelRefused(f"its metadata lacks {architecture}.context_length")
    bos, eos = metadata.get("tokenizer.ggml.bos_token_id"), metadata.get("tokenizer.ggml.eos_token_id")
    named = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eot", "eos", "eom")]
    return Generation(
        architecture=architecture,
        context_length=context_length,
        vocab_size=len(tokens),
        stop_ids=stop_ids(
            [index for index in named if index is not None], {token: index for index, token in enumerate(tokens)}
        ),
        bos_id=bos,
        bos_token=tokens[bos] if bos is not None else "",
        eos_token=tokens[eos] if eos is not None else "",
    )


def stop_ids(named: list[int], vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """Those that the model names first, then the well-known ones of its vocabulary; each once."""
    known = [vocabulary[token] for token in _ENDINGS if token in vocabulary]
    return tuple(dict.fromkeys([*named, *known]))
