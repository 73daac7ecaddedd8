"""Text to ids and back, on Hugging Face `tokenizers`: the adapter of the `Tokenizer` port.

Encoding is theirs; decoding is a table look-up of ours (see `vocabulary`), since it runs for every token that is
streamed. Special tokens never come out of people's text: see `chat`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HuggingFaceTokenizer

from pileus.core.errors import InvalidRequest, ModelRefused
from pileus.core.records import Message
from pileus.models.artefact import CHAT_TEMPLATE, TOKENIZER, Generation, read_generation
from pileus.models.chat import ChatTemplate
from pileus.models.vocabulary import TableDetokenizer, read_vocabulary

_LONG_CHARACTERS = 4_000
_PROBE = "\ue000"
_PROBES = [
    [Message("user", _PROBE)],
    [Message("system", _PROBE), Message("user", _PROBE), Message("assistant", _PROBE), Message("user", _PROBE)],
]


def load_tokenizer(path: Path) -> "ModelTokenizer":
    """From an artefact's folder. Raises `ModelRefused` where its tokenizer cannot be used."""
    try:
        definition = json.loads((path / TOKENIZER).read_bytes())
        template_file = path / CHAT_TEMPLATE
        template = template_file.read_text() if template_file.exists() else None
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path / TOKENIZER} cannot be read: {error}") from error
    return ModelTokenizer(definition, read_generation(path), template)


class ModelTokenizer:
    """One model's tokenizer. Made once per deployment; safe to share between threads, since it does not change."""

    def __init__(self, definition: Mapping[str, Any], generation: Generation, template: str | None) -> None:
        self.vocab_size = generation.vocab_size
        self.context_length = generation.context_length
        self.stop_ids = generation.stop_ids
        self._encoder = HuggingFaceTokenizer.from_str(json.dumps(definition))
        self._encoder.encode_special_tokens = True
        self._vocabulary = read_vocabulary(definition, generation.vocab_size)
        special = [token for token in definition.get("added_tokens", ()) if token["special"]]
        self._special_ids = {token["content"]: token["id"] for token in special}
        self._special_texts = {index: content for content, index in self._special_ids.items()}
        self._split = _splitter(self._special_ids)
        self._takes_space_before = {token["content"] for token in special if token["lstrip"]}
        self._takes_space_after = {token["content"] for token in special if token["rstrip"]}
        self._template: ChatTemplate | None = None
        self._own_words: dict[str, list[int]] = {}
        if template:
            variables = {"bos_token": generation.bos_token, "eos_token": generation.eos_token}
            self._template = ChatTemplate(template, list(self._special_ids), variables)
            self._own_words = self._encode_own_words(self._template)

    def encode(self, text: str) -> list[int]:
        return self._ids(text, add_special_tokens=True)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        if self._template is None:
            raise InvalidRequest("this model has no chat template: use completions", param="messages")
        text, mark = self._template.render(messages)
        pieces = self._pieces(text, mark)
        ids: list[int] = []
        for position, piece in enumerate(pieces):
            if position % 2:
                ids.append(self._special_ids[piece])
            elif piece:
                ids += self._own_words.get(piece) or self._encode_piece(piece)
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        detokenizer = self.detokenizer()
        return detokenizer.push(tokens) + detokenizer.flush()

    def token_text(self, token: int) -> tuple[str, bytes]:
        special = self._special_texts.get(token)
        data = self._vocabulary.table[token] if special is None else special.encode()
        return data.decode(errors="replace"), data

    def detokenizer(self) -> TableDetokenizer:
        return TableDetokenizer(self._vocabulary)

    def _pieces(self, text: str, mark: str) -> list[str]:
        """Rendered text as plain text and the template's special tokens in turn: plain, token, ..., token, plain."""
        if not mark:
            pieces = self._split(text)
        else:
            pieces = [piece.replace(mark, "") for piece in _splitter(self._special_ids, f"(?<!{mark})")(text)]
        if self._takes_space_before or self._takes_space_after:
            for at in range(1, len(pieces), 2):
                if pieces[at] in self._takes_space_before:
                    pieces[at - 1] = pieces[at - 1].rstrip()
                if pieces[at] in self._takes_space_after:
                    pieces[at + 1] = pieces[at + 1].lstrip()
        return pieces

    def _encode_piece(self, text: str) -> list[int]:
        return self._ids(text, add_special_tokens=False)

    def _ids(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Only `encode_batch` lets other threads run meanwhile, and only a long text is worth it."""
        if len(text) <= _LONG_CHARACTERS:
            ids: list[int] = self._encoder.encode(text, add_special_tokens=add_special_tokens).ids
        else:
            ids = self._encoder.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids
        return ids

    def _encode_own_words(self, template: ChatTemplate) -> dict[str, list[int]]:
        """What the template itself writes between people's texts, encoded once. Nothing of people's text is kept."""
        words: set[str] = set()
        for messages in _PROBES:
            try:
                text, _ = template.render(messages)
            except InvalidRequest:  # e.g. a template without a system turn
                continue
            words.update(piece for piece in self._pieces(text, "")[::2] if piece and _PROBE not in piece)
        return {word: self._encode_piece(word) for word in words}


def _splitter(special: Iterable[str], condition: str = "") -> Callable[[str], list[str]]:
    """Splits text at special tokens where the condition (a look-behind) holds; the tokens stay, at odd positions."""
    longest_first = [re.escape(token) for token in sorted(special, key=len, reverse=True)]
    return re.compile(f"{condition}({'|'.join(longest_first)})" if longest_first else "((?!))").split
