"""Bytes to text, and text that was once decoded wrongly back to what it was.

Most text is sound, and is known to be so by a look: only where something looks wrong is it repaired (by `ftfy`).
"""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from typing import Final

# UTF-8 that was read as Latin-1 or Windows-1252: a lead byte, and a continuation byte, each as the character that it
# is there. Also C1 controls, which nobody writes.
_BROKEN: Final = re.compile(
    "[\x80-\x84\x86-\x9f]|[\xc2-\xf4][\x80-\xbf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
_LEADS: Final = (b"\xc2", b"\xc3")  # what such characters begin with in UTF-8: what is sought faster
_MARKS: Final = ((BOM_UTF8, "utf-8-sig"), (BOM_UTF16_LE, "utf-16"), (BOM_UTF16_BE, "utf-16"))
_SAMPLE: Final = 64  # characters
_LEAST_HAN: Final = 4
_HAN: Final = re.compile("[\u4e00-\u9fff]")
_DENSE_HAN: Final = 0.5  # of the characters beyond ASCII


def decode(content: bytes) -> tuple[str, str]:
    """The text, and the encoding that it was in: UTF-8, what a byte-order mark says, GB 18030, or Windows-1252,
    whichever first fits. What fits none is UTF-8 with replacement characters."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace"), encoding
    try:
        return content.decode(), "utf-8"
    except UnicodeDecodeError as error:
        if error.end >= len(content) - 3 and error.reason == "unexpected end of data":  # it was cut off
            return content[: error.start].decode(), "utf-8"
    return _decode_old(content)


def repair(text: str) -> str:
    """Without mojibake, as far as that can be undone. The same text where there is none."""
    if text.isascii():
        return text
    content = text.encode(errors="surrogatepass")
    if any(lead in content for lead in _LEADS) and _BROKEN.search(text):
        from ftfy import fix_encoding

        return str(fix_encoding(text))
    return _from_gbk(text)


def _decode_old(content: bytes) -> tuple[str, str]:
    try:
        text = content.decode("gb18030")
        beyond = sum(not character.isascii() for character in text)
        if len(_HAN.findall(text)) > _DENSE_HAN * beyond:
            return text, "gb18030"
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        return content.decode(errors="replace"), "utf-8"


def _from_gbk(text: str) -> str:
    """UTF-8 that was read as GBK ("浣犲ソ" for "你好"): Chinese that as GBK happens to be UTF-8 is none."""
    if not _is_utf8_as_gbk(text[:_SAMPLE], whole=len(text) <= _SAMPLE):
        return text
    try:
        return text.encode("gb18030").decode()
    except UnicodeError:
        return text


def _is_utf8_as_gbk(sample: str, *, whole: bool) -> bool:
    try:
        told = sample.encode("gb18030")
    except UnicodeEncodeError:
        return False
    try:
        meant = told.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(told) - 4:
            return False
        meant = told[: error.start].decode()
    return len(_HAN.findall(meant)) >= _LEAST_HAN
