"""Identifiers that people see: a prefix that names the kind, then 120 random bits in base 32."""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(kind: str) -> str:
    """A fresh identifier such as `req_4t0q...`; unique without coordination."""
    bits = secrets.randbits(120)
    return kind + "_" + "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(0, 120, 5))
