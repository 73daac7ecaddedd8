"""Signatures of the Standard Webhooks specification: https://www.standardwebhooks.com, in its symmetric form `v1`."""

import hmac
from base64 import b64encode


def shown_secret(secret: bytes) -> str:
    """As receivers are given it."""
    return f"whsec_{b64encode(secret).decode()}"


def signed_headers(secret: bytes, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows the sender, the time, and what it has had already. `at` is Unix time."""
    digest = hmac.digest(secret, b"%b.%d.%b" % (message_id.encode(), at, body), "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{b64encode(digest).decode()}",
    }
