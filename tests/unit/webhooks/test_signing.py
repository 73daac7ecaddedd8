"""Signatures, against the specification's own example."""

from base64 import b64decode

from pileus.security.pepper import Pepper
from pileus.webhooks.signing import shown_secret, signed_headers


def test_the_example_of_the_specification_comes_out() -> None:
    secret = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert shown_secret(secret) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_secret_follows_from_the_pepper_and_the_webhook_and_is_nothing_else() -> None:
    pepper = Pepper(b"p" * 32)
    secret = pepper.webhook_secret("wh_1")
    assert secret == Pepper(b"p" * 32).webhook_secret("wh_1")
    others = {pepper.webhook_secret("wh_2"), Pepper(b"q" * 32).webhook_secret("wh_1"), pepper.salt("wh_1")}
    assert secret not in others | {pepper.digest(b"wh_1")}
    assert len(secret) == 32
