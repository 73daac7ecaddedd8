"""What turns texts to ids, for each model: of a model that speaks a `Tokenizer`, of an encoder a `TextEncoder`."""

from pathlib import Path
from typing import TYPE_CHECKING

from pileus.bootstrap import FAKE_ENCODER

if TYPE_CHECKING:
    from pileus.core.ports import TextEncoder, Tokenizer

    Text = Tokenizer | TextEncoder


def load(model: str, path: Path | None) -> "Text":
    """From an artefact's folder; without one, of the fake model of that name."""
    from pileus.models.artefact import Kind, load_artefact
    from pileus.models.encoder_tokenizer import load_text_encoder
    from pileus.models.tokenizer import load_tokenizer
    from pileus.testing.text_encoder import ByteTextEncoder
    from pileus.testing.tokenizer import ByteTokenizer

    if path is None:
        return ByteTextEncoder() if model == FAKE_ENCODER else ByteTokenizer()
    return load_text_encoder(path) if load_artefact(path).manifest.kind is Kind.ENCODER else load_tokenizer(path)
