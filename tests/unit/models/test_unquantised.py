"""A GGUF as a folder that training begins from: Transformers computes with it as with the original."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the `train` extra is not installed: `make extras`")

import numpy as np
import transformers

from made_models import write_tiny_gguf
from pileus.config.settings import Models
from pileus.core.errors import OperatorError
from pileus.models.catalogue import Catalogue
from pileus.models.convert.unquantised import write_folder
from pileus.models.progress import silent
from reference_models import logits_of, save_reference, write_as_gguf

IDS = [[5, 9, 200, 33, 7, 250, 1, 2]]


@pytest.mark.parametrize(
    ("architecture", "kind", "options"),
    [
        ("llama", "LlamaConfig", {"tie_word_embeddings": True}),
        ("qwen2", "Qwen2Config", {"tie_word_embeddings": True}),
        ("qwen3", "Qwen3Config", {"head_dim": 16}),
    ],
)
def test_the_folder_computes_what_the_original_does(
    architecture: str, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    original = save_reference(tmp_path / "original", kind, options)
    write_as_gguf(original, architecture, tmp_path / "model.gguf")
    folder = tmp_path / "folder"
    folder.mkdir()
    write_folder(tmp_path / "model.gguf", folder, silent)
    made = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    expected = logits_of(original, IDS)
    assert np.abs(logits_of(made, IDS) - expected).max() < 5e-3 * np.abs(expected).max()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert chat == "<|im_start|>user\nhello<|im_end|>\n"


def test_a_model_whose_original_is_gone_cannot_be_trained(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    catalogue = Catalogue(tmp_path / "models", Models())
    catalogue.import_folder(tmp_path / "tiny.gguf", "mine")
    with pytest.raises(OperatorError, match="import its Hugging Face folder"):
        catalogue.ensure_master("mine")
    with pytest.raises(OperatorError, match="there is no model"):
        catalogue.ensure_master("yours")
    catalogue.check_trainable("smollm2-135m-instruct")
