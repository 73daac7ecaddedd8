"""A tokenizer.json of Hugging Face's `tokenizers`, for texts of people: what looks like a special token stays text."""

from pathlib import Path

from tokenizers import Tokenizer

from pileus.core.errors import ModelRefused


def open_tokenizer(file: Path) -> Tokenizer:
    """Without padding and truncation. Raises `ModelRefused` for what is none."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        if type(error) is not Exception:  # the library raises just that for a bad file
            raise
        raise ModelRefused(f"{file} is no tokenizer.json that can be read: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer
