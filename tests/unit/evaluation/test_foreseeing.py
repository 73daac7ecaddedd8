from pathlib import Path

import pytest

from pileus.core.errors import ModelRefused
from pileus.evaluation.foreseeing import foresee
from pileus.evaluation.records import WindowSpec
from pileus.models.progress import silent
from pileus.models.tokenizer import load_tokenizer


def test_an_encoder_and_an_adapter_have_no_perplexity_and_are_not_called_broken(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a text")
    with pytest.raises(ModelRefused, match="generates no text by itself"):
        foresee(load_tokenizer, tmp_path, tmp_path / "a.txt", WindowSpec(), 0, silent)
