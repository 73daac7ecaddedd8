"""Speaking to a server: whatever goes wrong is one line that says what to do."""

import pytest

from unit.cli.conftest import Pileus, Stub


def test_without_a_key_one_line_tells_how_to_get_one(pileus: Pileus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILEUS_API_KEY", raising=False)
    ran = pileus("status")
    assert ran.status == 1
    assert ran.err.count("\n") == 1
    assert "export PILEUS_API_KEY=" in ran.err
    assert "pileus keys create" in ran.err


def test_without_a_server_one_line_tells_how_to_start_one(pileus: Pileus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILEUS_API_KEY", "sk-pileus-test")
    monkeypatch.setenv("PILEUS_URL", "http://127.0.0.1:9")
    ran = pileus("ps")
    assert (ran.status, ran.out) == (1, "")
    assert (
        ran.err
        == "pileus: no server at http://127.0.0.1:9: start one with `pileus up`, or name another in PILEUS_URL\n"
    )


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://a\nb", ""])
def test_what_is_no_address_is_told(pileus: Pileus, stub: Stub, url: str) -> None:
    ran = pileus("ps", "--url", url)
    assert ran.status == 1
    assert "is no server's address" in ran.err


def test_a_key_that_was_copied_with_something_else_is_told(pileus: Pileus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILEUS_API_KEY", "sk-pileus-…")
    assert "copy the key again" in pileus("ps").err


def test_the_key_is_sent_and_the_servers_own_words_are_shown(pileus: Pileus, stub: Stub) -> None:
    stub.refuse("GET", "/admin/v1/status", 403, "This key may not do that.")
    ran = pileus("status")
    assert (ran.status, ran.err) == (1, "pileus: This key may not do that.\n")
    assert stub.keys == ["Bearer sk-pileus-test"]


def test_a_refused_key_names_the_variable_that_it_came_from(pileus: Pileus, stub: Stub) -> None:
    stub.refuse("GET", "/admin/v1/status", 401, "This key was revoked.")
    assert "PILEUS_API_KEY" in pileus("status").err


def test_a_server_that_is_no_pileus_is_told_as_such(pileus: Pileus, stub: Stub) -> None:
    assert "does not answer like a Pileus server (404)" in pileus("status").err


def test_an_error_inside_a_stream_is_told_after_the_text_that_came(pileus: Pileus, stub: Stub) -> None:
    stub.answer("GET", "/v1/models", {"data": [{"id": "m"}]})
    stub.answers["POST", "/v1/chat/completions"] = (
        200,
        'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\ndata: {"error": {"message": "the engine died"}}\n\n',
    )
    ran = pileus("chat", "hi")
    assert (ran.status, ran.out) == (1, "Hel")
    assert ran.err.endswith("pileus: the engine died\n")
