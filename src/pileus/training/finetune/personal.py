"""What in a text looks like data about a person: found by its form, and by its check digits where it has some."""

import re
from collections.abc import Callable, Iterator
from typing import Final

_CHINESE_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHINESE_CHECKS: Final = "10X98765432"


def personal_data(text: str) -> Iterator[str]:
    """The kinds that occur in it."""
    for kind, pattern, is_one in _KINDS:
        if any(is_one(found.group()) for found in pattern.finditer(text)):
            yield kind


def _digits(text: str) -> list[int]:
    return [int(each) for each in text if each.isdigit()]


def _is_card(text: str) -> bool:
    """Luhn's check. https://en.wikipedia.org/wiki/Luhn_algorithm"""
    digits = _digits(text)[::-1]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: the first four characters go to the end, letters count from 10, and the rest by 97 is 1."""
    plain = text.replace(" ", "")
    number = "".join(str(int(each, 36)) for each in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(number) % 97 == 1


def _is_chinese_id(text: str) -> bool:
    """GB 11643: the last character follows from the first 17."""
    total = sum(int(digit) * weight for digit, weight in zip(text[:17], _CHINESE_WEIGHTS, strict=True))
    return _CHINESE_CHECKS[total % 11] == text[17].upper()


def _is_phone(text: str) -> bool:
    return 9 <= len(_digits(text)) <= 15


_KINDS: Final[tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...]] = (
    ("e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+"), lambda _: True),
    ("card number", re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])"), _is_card),
    ("bank account", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), _is_iban),
    ("identity number", re.compile(r"(?<!\w)\d{17}[\dXx](?!\w)"), _is_chinese_id),
    ("social security number", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), lambda _: True),
    (
        "phone number",
        re.compile(
            r"(?<!\w)(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)|\d{1,4})(?:[ .-]?\d{2,4}){2,4}|1[3-9]\d{9})(?![\w.]\d|\d)"
        ),
        _is_phone,
    ),
)
