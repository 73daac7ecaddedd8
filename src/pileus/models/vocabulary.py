"""What each token is in bytes, and text from tokens as they come.

Two kinds of vocabulary exist in the models served here. Byte-level BPE (GPT-2's): each character of a token stands for
one byte. Byte-fallback (Llama 2's): tokens are text with U+2581 for a space, and bytes that no token covers are
`<0xNN>`. Both become one table from ids to bytes, made once, so that decoding is a look-up and a join.
"""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pileus.core.errors import ModelRefused

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


class Vocabulary:
    """Ids to bytes. Special tokens and ids without a token are empty."""

    def __init__(self, table: list[bytes], *, skips_first_space: bool) -> None:
        self.table = table
        self.skips_first_space = skips_first_space  # the encoder put one before the text


class TableDetokenizer:
    """One choice's text as it comes. An incomplete UTF-8 character waits for its rest."""

    __slots__ = ("_decode", "_skip_space", "_table")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._table = vocabulary.table
        self._skip_space = vocabulary.skips_first_space
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def push(self, tokens: Sequence[int]) -> str:
        table = self._table
        text = self._decode(b"".join([table[token] for token in tokens]))
        return self._first(text) if self._skip_space and text else text

    def flush(self) -> str:
        return self._decode(b"", True)

    def _first(self, text: str) -> str:
        self._skip_space = False
        return text.removeprefix(" ")


def read_vocabulary(definition: Mapping[str, Any], vocab_size: int) -> Vocabulary:
    """From tokenizer.json. Raises `ModelRefused` for a decoder of another kind."""
    decoders = list(_decoders(definition.get("decoder")))
    kinds = [decoder["type"] for decoder in decoders]
    if "ByteLevel" in kinds:
        to_bytes = _byte_level_bytes
    elif "ByteFallback" in kinds:
        to_bytes = _fallback_bytes
    else:
        raise ModelRefused(f"its tokenizer decodes by {kinds or 'nothing'}: byte-level and byte-fallback are supported")
    table = [b""] * vocab_size
    for token, index in definition["model"]["vocab"].items():
        table[index] = to_bytes(token)
    for added in definition.get("added_tokens", ()):
        table[added["id"]] = b"" if added["special"] else to_bytes(added["content"])
    strips = any(kind == "Strip" for kind in kinds)
    return Vocabulary(table, skips_first_space=strips)


def _decoders(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if decoder is None:
        return
    if decoder["type"] == "Sequence":
        for part in decoder["decoders"]:
            yield from _decoders(part)
    else:
        yield decoder


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF_CHARACTER = _byte_of_character()


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:  # an added token is written as it is
        return token.encode()


def _fallback_bytes(token: str) -> bytes:
    if match := _BYTE_FALLBACK.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace("\u2581", " ").encode()
