"""What stands around a text: navigation, notices, appeals. Out of HTML by its structure, out of lines by what they
say."""

from typing import Final

# A short line with one of these is nobody's text.
_PHRASES: Final = (
    "all rights reserved",
    "cookie policy",
    "enable javascript",
    "privacy policy",
    "terms of service",
    "terms of use",
    "uses cookies",
    "use cookies",
    "sign up for our newsletter",
    "share on facebook",
    "版权所有",
    "隐私政策",
    "使用条款",
    "未经授权",
    "扫描二维码",
    "点击查看更多",
)
_ASCII_PHRASES: Final = tuple(phrase for phrase in _PHRASES if phrase.isascii())
_LONGEST: Final = 160  # characters of such a line


def main_text(html: str) -> str:
    """The text of a page without what surrounds it; empty where there is none."""
    from trafilatura import extract

    return extract(html, include_comments=False, include_tables=True) or ""


def without_notices(text: str) -> str:
    """Without the short lines that are notices."""
    lines = text.split("\n")
    short = "\n".join(line for line in lines if len(line) <= _LONGEST).lower()
    phrases = [phrase for phrase in (_ASCII_PHRASES if short.isascii() else _PHRASES) if phrase in short]
    if not phrases:
        return text
    return "\n".join(line for line in lines if not _is_notice(line, phrases)).strip()


def _is_notice(line: str, phrases: list[str]) -> bool:
    return len(line) <= _LONGEST and any(phrase in line.lower() for phrase in phrases)
