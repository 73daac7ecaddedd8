"""Personal data in a text, replaced by what kind it was: `<EMAIL>`, `<PHONE>`, `<CARD>`, `<IBAN>`, `<IP>`,
`<ID_NUMBER>`.

Numbers that carry a check digit (cards, IBANs, Chinese identity numbers) are replaced only where it is right, so that
other long numbers stay.
"""

import re
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z])")
_IBAN: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", re.ASCII
)
_IP: Final = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,6})(?![\w:]|\.\d)",
    re.ASCII,  # Chinese writes no blank before a number
)
# A run of digits, with what people write between them. What it is, its digits tell.
_NUMBER: Final = re.compile(r"(?<![\w.,$€£¥%/-])(?:\+|\()?\d(?:[ ().-]{0,2}\d){6,18}[Xx]?(?![\w/%]|[.,]\d)", re.ASCII)
_NO_DIGITS: Final = re.compile(r"\D", re.ASCII)
_PHONES: Final = re.compile(
    r"\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}"  # with the country
    r"|(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}"  # North America
    r"|(?:86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # a Chinese mobile
    r"|\(?0\d{2,3}\)?[ -]?[2-9]\d{6,7}"  # a Chinese line
    r"|0\d{2,4}[ .-]\d{3,4}[ .-]?\d{3,4}"  # a European line
)
_CARD_DIGITS: Final = range(13, 20)
_CARD_BEGINS: Final = ("2", "3", "4", "5", "6")
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS: Final = "10X98765432"
_ID_DIGITS: Final = 18
_IPV6_COLONS: Final = 7


def without_personal(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how many of each kind."""
    found: Counter[str] = Counter()

    def replaced(kind: str, is_one: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            if not is_one(match[0]):
                return match[0]
            found[kind] += 1
            return f"<{kind}>"

        return replace

    def number(match: re.Match[str]) -> str:
        kind = _kind_of(match[0])
        if not kind:
            return match[0]
        found[kind] += 1
        return f"<{kind}>"

    if "@" in text:
        text = _EMAIL.sub(replaced("EMAIL", bool), text)
    if any(digit in text for digit in "0123456789"):
        text = _IBAN.sub(replaced("IBAN", is_iban), text)
        text = _IP.sub(replaced("IP", is_ip), text)
        text = _NUMBER.sub(number, text)
    return text, found


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit that ISO/IEC 7812 asks for."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def is_iban(text: str) -> bool:
    """By ISO 13616: the first four characters to the end, letters as 10 to 35, and the rest by 97 is 1."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def is_ip(text: str) -> bool:
    """An address of a host: no version number such as 1.2.3.4 can be told from one, and both are replaced."""
    if ":" in text and "::" not in text and text.count(":") != _IPV6_COLONS:
        return False  # a time of day
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False


def is_chinese_id(text: str) -> bool:
    """By GB 11643: eighteen digits, of which seven to fourteen are a date of birth and the last, which may be X,
    checks."""
    if not (re.fullmatch(r"[1-9]\d{16}[\dXx]", text) and text[6:8] in ("18", "19", "20")):
        return False
    if not ("01" <= text[10:12] <= "12" and "01" <= text[12:14] <= "31"):
        return False
    rest = sum(int(digit) * weight for digit, weight in zip(text, _ID_WEIGHTS, strict=False)) % 11
    return _ID_CHECKS[rest] == text[-1].upper()


def _kind_of(written: str) -> str:
    """What a run of digits is; empty for an ordinary number."""
    digits = _NO_DIGITS.sub("", written)
    if len(written) == _ID_DIGITS and is_chinese_id(written):
        return "ID_NUMBER"
    if written[-1] in "Xx":
        return ""
    if len(digits) in _CARD_DIGITS and written.startswith(_CARD_BEGINS) and is_luhn(digits) and _is_grouped(written):
        return "CARD"
    return "PHONE" if _PHONES.fullmatch(written) else ""


def _is_grouped(written: str) -> bool:
    """As cards are written: in one, or in groups of at least three digits."""
    return all(len(group) >= 3 for group in re.split(r"[ -]", written)) and "(" not in written and "." not in written
