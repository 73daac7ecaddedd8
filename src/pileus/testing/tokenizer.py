"""A tokenizer without a model: one token per byte, and a thousand made-up words for the fake engine to say."""

import codecs
from collections.abc import Sequence

from pileus.core.errors import InvalidRequest
from pileus.core.records import Message

FIRST_WORD = 1000
_TURN_START, _TURN_END, _END = 256, 257, 258
_SPECIAL = {_TURN_START: "<|im_start|>", _TURN_END: "<|im_end|>", _END: "<|endoftext|>"}
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_WORDS = tuple(f" {_SYLLABLES[i % 70]}{_SYLLABLES[i // 70]}" for i in range(1000))


class ByteTokenizer:
    """Meets `core.ports.Tokenizer`. Text is encoded to its UTF-8 bytes; ids from `FIRST_WORD` on are whole words."""

    vocab_size = FIRST_WORD + len(_WORDS)
    context_length = 8192
    stop_ids: tuple[int, ...] = (_TURN_END, _END)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        if not messages:
            raise InvalidRequest("there must be at least one message", param="messages")
        ids: list[int] = []
        for message in messages:
            if message.role not in _ROLES:
                raise InvalidRequest(f"unknown role {message.role!r}", param="messages")
            ids += [_TURN_START, *f"{message.role}\n{message.content}".encode(), _TURN_END, *b"\n"]
        return [*ids, _TURN_START, *b"assistant\n"]

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(map(_token_bytes, tokens)).decode(errors="replace")

    def token_text(self, token: int) -> tuple[str, bytes]:
        data = _token_bytes(token)
        return data.decode(errors="replace"), data

    def detokenizer(self) -> "ByteDetokenizer":
        return ByteDetokenizer()


class ByteDetokenizer:
    """Meets `core.ports.Detokenizer`."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, tokens: Sequence[int]) -> str:
        return self._decoder.decode(b"".join(map(_token_bytes, tokens)))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def _token_bytes(token: int) -> bytes:
    if 0 <= token < 256:
        return bytes((token,))
    if FIRST_WORD <= token < FIRST_WORD + len(_WORDS):
        return _WORDS[token - FIRST_WORD].encode()
    return _SPECIAL.get(token, "\N{REPLACEMENT CHARACTER}").encode()
