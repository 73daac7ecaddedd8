"""Small models and a small hub, made on the spot."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from made_hub import Hub, serving
from made_models import TEMPLATE, TOKENS, tokenizer_content, write_tiny_gguf
from pileus.models.artefact import Generation
from pileus.models.tokenizer import ModelTokenizer


@pytest.fixture
def start_hub() -> Iterator[Callable[[bytes], Hub]]:
    """Starts hubs that serve one file; ends them with the test."""
    with ExitStack() as running:
        yield lambda content: running.enter_context(serving(content))


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A Llama of one layer, with random weights."""
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture
def tiny_tokenizer() -> dict[str, Any]:
    """The content of a tokenizer.json: byte-level BPE."""
    return tokenizer_content()


@pytest.fixture(scope="session")
def reference() -> HuggingFaceTokenizer:
    """The tiny tokenizer as its library has it."""
    return HuggingFaceTokenizer.from_str(json.dumps(tokenizer_content()))


@pytest.fixture(scope="session")
def made_tokenizer() -> ModelTokenizer:
    """Ours, for properties with many examples."""
    generation = Generation(architecture="llama", context_length=128, vocab_size=len(TOKENS), stop_ids=(2, 0))
    return ModelTokenizer(tokenizer_content(), generation, TEMPLATE)


@pytest.fixture
def huggingface_folder(tmp_path: Path, tiny_tokenizer: dict[str, Any]) -> Path:
    """A folder with everything but weights, for tests that add or break something."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "vocab_size": len(TOKENS),
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tiny_tokenizer))
    return folder
