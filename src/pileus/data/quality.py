"""Rules that a document keeps or is left out by, each counted by its name.

They are those of Gopher (Rae et al. 2021, table A1) and C4 (Raffel et al. 2020), with two changes that let whole
arrays be looked at instead of single words: shares are of words and not of characters, and letters are counted in the
text as a whole. A Chinese or Japanese character is a word here (`words`), so that runs of words are taken twice as
long there.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.data.words import Words, runs

# The share that the most frequent run of so many words may have, and that those which came before may have together.
_TOP_RUNS: Final = ((2, 0.20), (3, 0.18), (4, 0.16))
_REPEATED_RUNS: Final = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
_BULLETS: Final = ("-", "*", "•", "●", "·", "‣", "–")
_ELLIPSES: Final = ("...", "…")
_STOP_SHARE: Final = 0.2  # of the words, for a script's stop words to count
_BEGINNING: Final = 2000  # characters, in which stop words are looked for first
_HALF: Final = np.uint64(32)
_STOP_WORDS: Final = {
    "en": (" the ", " and ", " of ", " to ", " that ", " with ", " be ", " have ", " in ", " is ", " a "),
    "de": (" der ", " und ", " die ", " nicht ", " ist ", " mit ", " das ", " zu "),
    "es": (" de ", " que ", " el ", " la ", " los ", " por ", " con ", " una "),
    "fr": (" de ", " la ", " et ", " les ", " des ", " que ", " est ", " dans "),
    "it": (" di ", " che ", " la ", " il ", " per ", " non ", " una ", " con "),
    "ja": ("の", "は", "に", "を", "た", "が"),
    "nl": (" de ", " van ", " het ", " een ", " en ", " niet ", " dat ", " met "),
    "pt": (" de ", " que ", " para ", " com ", " uma ", " os ", " não ", " por "),
    "zh": ("的", "是", "在", "了", "不", "和", "有", "人", "這", "这"),
}
_NOT_APART: Final = ("ja", "zh")  # languages without blanks between words


class Rules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds that a document keeps. Shares are from 0 to 1."""

    min_words: int = 50
    max_words: int = 100_000
    min_word_length: float = 3.0  # characters, on average; not asked of Chinese and Japanese
    max_word_length: float = 10.0
    min_letters: float = 0.6  # of the characters that are no blanks
    max_symbols: float = 0.1  # hash signs and ellipses, to words
    max_braces: float = 0.02  # curly brackets, to words
    max_replaced: float = 0.001  # characters that were lost, of all
    max_bullets: float = 0.9  # of lines
    max_ellipses: float = 0.3  # lines that end in one
    max_repeated_lines: float = 0.3
    min_stop_words: int = 2  # different ones; 0 asks for none
    repetition: bool = True  # look for runs of words that come again and again


def broken_rule(text: str, words: Words, rules: Rules, languages: Sequence[str] = ()) -> str:
    """The name of the first rule that the document breaks; empty where it keeps all. Stop words are those of
    `languages`, or of any language that has a list."""
    return (
        _by_size(words, rules)
        or _by_characters(text, words, rules)
        or _by_lines(text, rules)
        or ("" if _has_stop_words(text, words, rules.min_stop_words, languages) else "stop_words")
        or (_by_repetition(words) if rules.repetition else "")
    )


def _by_size(words: Words, rules: Rules) -> str:
    count = len(words)
    if count < rules.min_words:
        return "too_short"
    if count > rules.max_words:
        return "too_long"
    if not words.is_ideographic and count > words.alone:
        mean = (words.letters - words.alone) / (count - words.alone)
        if not rules.min_word_length <= mean <= rules.max_word_length:
            return "word_length"
    return ""


def _by_characters(text: str, words: Words, rules: Rules) -> str:
    count = len(words)
    if words.letters < rules.min_letters * (len(text) - words.blanks):
        return "letters"
    if text.count("#") + text.count("...") + text.count("…") > rules.max_symbols * count:
        return "symbols"
    if text.count("{") + text.count("}") > rules.max_braces * count:
        return "braces"
    if text.count("\ufffd") + text.count("锟斤拷") > rules.max_replaced * len(text):
        return "lost_characters"
    return "lorem_ipsum" if "lorem ipsum" in text or "Lorem ipsum" in text else ""


def _by_lines(text: str, rules: Rules) -> str:
    lines = [line for line in text.split("\n") if line]
    count = len(lines)
    if count < 2:
        return ""
    if count - len(set(lines)) > rules.max_repeated_lines * count:
        return "repeated_lines"
    if sum(line.lstrip().startswith(_BULLETS) for line in lines) > rules.max_bullets * count:
        return "bullets"
    return "ellipses" if sum(line.endswith(_ELLIPSES) for line in lines) > rules.max_ellipses * count else ""


def _has_stop_words(text: str, words: Words, least: int, languages: Sequence[str]) -> bool:
    """True also where nobody knows the stop words of the languages that are asked for."""
    asked = languages or tuple(_STOP_WORDS)
    if not least or any(language not in _STOP_WORDS for language in asked):
        return True
    share = words.alone / len(words)  # a text may be in two languages
    known = [
        _STOP_WORDS[language] for language in asked if (share if language in _NOT_APART else 1 - share) >= _STOP_SHARE
    ]
    beginning = f" {text[:_BEGINNING].lower()} "
    if any(_holds(beginning, stop_words, least) for stop_words in known):
        return True
    lower = f" {text.lower()} "
    return len(text) > _BEGINNING and any(_holds(lower, stop_words, least) for stop_words in known)


def _holds(text: str, stop_words: Sequence[str], least: int) -> bool:
    for word in stop_words:
        least -= word in text
        if not least:
            return True
    return False


def _by_repetition(words: Words) -> str:
    """Each longer run that comes again holds a shorter one that does, so that the shortest runs tell where nothing can
    be found among longer ones, and those are not looked at: nearly always."""
    longer = 2 if words.is_ideographic else 1
    short = (words.numbers >> _HALF).astype(np.uint32)  # of one text, these suffice, and are sorted faster
    count = len(short)
    least_top = min(share / length for length, share in _TOP_RUNS) / longer
    if _has_more(np.sort(runs(short, _TOP_RUNS[0][0] * longer)), least_top * count):
        for length, share in _TOP_RUNS:
            if _has_more(np.sort(runs(short, length * longer)), share / (length * longer) * count):
                return f"top_{length}_words"
    least_repeated = min(share for _, share in _REPEATED_RUNS)
    if _repeated(np.sort(runs(short, _REPEATED_RUNS[0][0] * longer))) > least_repeated:
        for length, share in _REPEATED_RUNS:
            if _repeated(np.sort(runs(short, length * longer))) > share:
                return f"repeated_{length}_words"
    return ""


def _has_more(ordered: NDArray[np.uint32], most: float) -> bool:
    """Whether any is there more than `most` times, and more than once."""
    apart = max(int(most), 1)
    return len(ordered) > apart and bool((ordered[apart:] == ordered[:-apart]).any())


def _repeated(ordered: NDArray[np.uint32]) -> float:
    """The share of those that are there already before."""
    if len(ordered) < 2:
        return 0.0
    return float(np.count_nonzero(ordered[1:] == ordered[:-1])) / len(ordered)
