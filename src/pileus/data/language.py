"""Which language a document is in: by its script where that is enough, else by `lingua` on a sample.

Identification costs more than all other steps together, so little text is looked at: what stands at the beginning, in
the middle and at the end.
"""

from collections.abc import Sequence
from typing import Final

from pileus.core.errors import OperatorError

_PIECES: Final = 3
_PIECE: Final = 120  # characters
# What a text in an asked language might be instead, by scripts: identification among the asked alone would find one
# always.
_LATIN: Final = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "sv", "tr", "vi", "id")
_CYRILLIC: Final = ("ru", "uk", "bg", "sr")
_SCRIPTS: Final = (
    ("hangul", 0xAC00, 0xD7AF),
    ("kana", 0x3040, 0x30FF),
    ("han", 0x4E00, 0x9FFF),
    ("cyrillic", 0x400, 0x4FF),
)
_SHARE: Final = 0.2  # of the letters, from which on a script decides
_KANA_SHARE: Final = 0.05
UNKNOWN: Final = "unknown"


class Identifier:
    """For documents that should be in one of `languages` (ISO 639-1). Raises `OperatorError` for one that is
    not known."""

    def __init__(self, languages: Sequence[str]) -> None:
        from lingua import IsoCode639_1, LanguageDetectorBuilder

        others = set(_LATIN) | (set(_CYRILLIC) if set(languages) & set(_CYRILLIC) else set())
        names = sorted({code.upper() for code in (*languages, *others)})
        if unknown := [name for name in names if not hasattr(IsoCode639_1, name)]:
            raise OperatorError(f"no language is known as {unknown[0].lower()!r}: name it by ISO 639-1, as `en`")
        codes = [getattr(IsoCode639_1, name) for name in names]
        self._detector = LanguageDetectorBuilder.from_iso_codes_639_1(*codes).with_low_accuracy_mode().build()

    def identify(self, text: str) -> str:
        """The code of the language, or `UNKNOWN`."""
        sample = _sample(text)
        script = _script(sample)
        if script in ("han", "kana", "hangul"):
            return {"han": "zh", "kana": "ja", "hangul": "ko"}[script]
        found = self._detector.detect_language_of(sample)
        return UNKNOWN if found is None else found.iso_code_639_1.name.lower()


def _sample(text: str) -> str:
    if len(text) <= _PIECES * _PIECE:
        return text
    step = (len(text) - _PIECE) // (_PIECES - 1)
    return " ".join(text[at : at + _PIECE] for at in range(0, step * _PIECES, step))


def _script(sample: str) -> str:
    letters = [ord(character) for character in sample if character.isalpha()]
    if not letters:
        return ""
    for name, first, last in _SCRIPTS:
        share = sum(first <= letter <= last for letter in letters) / len(letters)
        if share > (_KANA_SHARE if name == "kana" else _SHARE):
            return name
    return "latin"
