"""Attack 40, as far as the edge goes: what callers write cannot forge a log line, and no secret reaches the log."""

import json

from attacks.target import Target

SECRET_TEXT = "my password is swordfish"


def test_40_nothing_that_callers_write_forges_a_line_or_leaks_into_the_log(target: Target) -> None:
    forged = 'x\r\n\x1b[31m{"event": "forged"}'
    target.ask(model=forged)
    target.ask(messages=[{"role": "user", "content": SECRET_TEXT}], temperature=9)
    target.ask(messages=[{"role": "user", "content": SECRET_TEXT}])
    target.raw(f"GET /{forged} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    target.raw(
        b"GET /%0d%0a%1b[31mforged HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + target.user.encode() + b"\r\n\r\n"
    )
    log = (target.server.data / "server.log").read_text()
    assert "\x1b" not in log
    assert SECRET_TEXT not in log
    assert target.user not in log
    for line in log.splitlines():
        if line.startswith("{"):
            assert json.loads(line)["event"] != "forged"


def test_40_a_header_that_ends_early_does_not_become_two(target: Target) -> None:
    answer = target.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: a\x0dset-cookie: b\r\n\r\n")
    assert answer.status == 400
    assert "set-cookie" not in answer.text
