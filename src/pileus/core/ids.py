"""Identifiers that people see: a prefix that names the kind, then 120 random bits in base 32."""

import random
from base64 import b32encode

# Crockford's alphabet in lower case: no letter that is taken for a digit.
_READABLE = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")


def new_id(kind: str, mark: str = "_") -> str:
    """A fresh identifier such as `req_4t0q...`; unique without coordination, and no secret.

    `mark` stands behind the kind: OpenAI's ids of files have `-` there.
    """
    return f"{kind}{mark}{b32encode(random.randbytes(15)).translate(_READABLE).decode()}"  # noqa: S311
