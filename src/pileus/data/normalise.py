"""One way of writing for what means the same, so that equal texts are equal bytes."""

import re
import unicodedata
from typing import Final

import numpy as np

# Beyond ASCII, each of these is looked for by itself, which is faster than a pattern as long as it is not there.
_UNSEEN: Final = "\u200b\u2060\ufeff\u00ad"  # zero-width blanks and joiners, soft hyphens
_ODD_BLANKS: Final = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"
_ODD_LINE_ENDS: Final = "\x85\u2028\u2029"
_STRANGE_ONES: Final = _UNSEEN + _ODD_BLANKS + _ODD_LINE_ENDS
_STRANGE: Final = str.maketrans(
    dict.fromkeys(_UNSEEN, "") | dict.fromkeys(_ODD_BLANKS, " ") | dict.fromkeys(_ODD_LINE_ENDS, "\n")
)
_CONTROLS: Final = bytes({*range(0x20), 0x7F} - set(b"\t\n"))
_FIRST_SEEN: Final = 0x20
_PLAIN: Final = str.maketrans({chr(code): "\n" if code in b"\v\f\r" else "" for code in _CONTROLS})
_BLANK_LINES: Final = re.compile(r"\n(?:[ \t]*\n){2,}")
_ENDS_OF_LINES: Final = re.compile(r"(?<![ \t])[ \t]+\n")  # looked for once in each run of blanks, however long


def normalise(text: str) -> str:
    """NFC, `\\n` between lines, no control or unseen characters, at most one empty line in a row, no blanks at the
    ends of lines. Blanks at their beginnings stay: they mean something in programs and lists."""
    if not text.isascii():
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
        if any(strange in text for strange in _STRANGE_ONES):
            text = text.translate(_STRANGE)
    content = text.encode(errors="surrogatepass")
    low = int(np.count_nonzero(np.frombuffer(content, np.uint8) < _FIRST_SEEN))
    if low > content.count(b"\n") + content.count(b"\t") or b"\x7f" in content:
        text = text.replace("\r\n", "\n").translate(_PLAIN)
    if " \n" in text or ("\t" in text and "\t\n" in text):
        text = _ENDS_OF_LINES.sub("\n", text)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip()
