"""What `pileus up` tells once the server is ready."""

from pileus.bootstrap.server import Ready
from pileus.cli.serve import greeting


def test_the_first_key_is_shown_and_is_in_the_curl() -> None:
    ready = Ready(url="http://127.0.0.1:8000", models=("small", "big"), admin_key="sk-pileus-x", took_s=3.21)
    text = "\n".join(greeting(ready))
    assert "ready after 3.2 s and serves small, big" in text
    assert "export PILEUS_API_KEY=sk-pileus-x" in text
    assert '"Authorization: Bearer sk-pileus-x"' in text
    assert '"model": "small"' in text
    assert "http://127.0.0.1:8000/console" in text


def test_a_later_start_shows_no_key() -> None:
    text = "\n".join(greeting(Ready(url="http://h:1", models=("small",), admin_key=None, took_s=1.0)))
    assert "sk-pileus" not in text
    assert '"Authorization: Bearer $PILEUS_API_KEY"' in text
