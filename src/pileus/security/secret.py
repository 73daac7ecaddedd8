"""The form of an API key: `sk-pileus-`, 256 random bits in base 62, then a CRC-32 of all that in base 62.

The checksum tells a typing mistake from an unknown key before anything is looked up; it protects nothing.
"""

import secrets
import zlib

PREFIX = "sk-pileus-"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_DIGITS = 43  # 62**43 > 2**256
_CHECK_DIGITS = 6  # 62**6 > 2**32
LENGTH = len(PREFIX) + _RANDOM_DIGITS + _CHECK_DIGITS


def new_secret() -> str:
    """A fresh key. It is shown once and kept nowhere."""
    body = PREFIX + _base62(secrets.randbits(256), _RANDOM_DIGITS)
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Whether this could be a key at all: its form and its checksum hold."""
    return (
        len(secret) == LENGTH
        and secret.isascii()
        and secret.startswith(PREFIX)
        and secret[-_CHECK_DIGITS:] == _checksum(secret[:-_CHECK_DIGITS])
    )


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _ALPHABET[digit] + text
    return text
