"""Attacks 1, 2, 3, 4, 5, 9 and 12: who is calling, and what they claim to be."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse

from attacks.target import CHAT, MIB, Target
from pileus.security.guesses import LIMIT, WINDOW_S
from pileus.security.secret import new_secret

ATTACKER = "127.0.0.2"  # an address apart, so that the other attacks keep their own count
GUESSES = 3000


def test_1_sql_in_a_key_is_just_a_wrong_key(target: Target) -> None:
    with target.http("' OR '1'='1") as client:
        response = client.get("/v1/models")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_2_a_path_in_the_host_header_opens_nothing(target: Target) -> None:
    for host in ("x/healthz?", "x/healthz#", "x@y", "x y", "x\\y", "../healthz", 'x"y'):
        for path in ("/v1/models", "/healthz"):
            answer = target.raw(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            assert answer.status == 400, (host, answer.text)
    absolute = target.raw(b"GET http://x/healthz/../v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
    assert absolute.status in (401, 404)


def test_2_two_hosts_are_refused(target: Target) -> None:
    assert target.raw(b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").status == 400


def test_3_the_two_headers_are_one_policy_and_the_query_is_refused(target: Target) -> None:
    with target.http() as client:
        del client.headers["authorization"]
        for key, status in ((target.user, 200), ("sk-pileus-wrong", 401)):
            for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
                assert client.get("/v1/models", headers=headers).status_code == status
                refused = client.get("/admin/v1/keys", headers=headers).status_code
                assert refused == (403 if status == 200 else 401)
        for name in ("key", "api_key", "access_token", "whatever"):
            answer = client.get("/v1/models", params={name: target.user})
            assert answer.status_code == 400
            assert target.user not in answer.text


def test_4_two_conflicting_keys_are_refused(target: Target) -> None:
    good, bad = f"Bearer {target.user}", "Bearer sk-pileus-other"
    for first, second in ((good, bad), (bad, good), (good, good)):
        lines = f"authorization: {first}\r\nauthorization: {second}"
        assert target.raw(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n".encode()).status == 400
    lines = f"authorization: {good}\r\nx-api-key: sk-pileus-other"
    assert target.raw(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n".encode()).status == 400


@contextmanager
def trying(target: Target) -> Iterator["Guesser"]:
    with closing(HTTPConnection(*target.address, timeout=30, source_address=(ATTACKER, 0))) as connection:
        yield Guesser(connection)


class Guesser:
    """One connection that tries keys."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def attempt(self, key: str) -> HTTPResponse:
        self._connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
        response = self._connection.getresponse()
        response.read()
        return response


def test_5_key_guesses_are_told_to_wait_and_the_right_key_still_works(target: Target) -> None:
    before = target.rss_bytes()
    began = time.monotonic()
    with trying(target) as guesser:
        answers = [guesser.attempt(new_secret() if n % 2 else f"sk-pileus-{n}") for n in range(GUESSES)]
        assert guesser.attempt(target.user).status == 200
        waits = [int(answer.headers["retry-after"]) for answer in answers if answer.status == 429]
    windows = 1 + int((time.monotonic() - began) / WINDOW_S)
    assert [answer.status for answer in answers[: LIMIT + 1]] == [401] * LIMIT + [429]
    assert [answer.status for answer in answers].count(401) <= windows * LIMIT
    assert len(waits) >= GUESSES - windows * LIMIT
    assert all(1 <= wait <= WINDOW_S for wait in waits)
    with target.http("sk-pileus-wrong") as elsewhere:
        assert elsewhere.get("/v1/models").status_code == 401
    assert target.rss_bytes() - before < 10 * MIB


def test_9_nobody_gives_himself_a_role_a_tenant_or_a_price(target: Target) -> None:
    for claim in ({"role": "admin"}, {"tenant_id": "other"}, {"tenant": "other"}, {"price": 0}, {"key_id": "key_0"}):
        response = target.ask(**claim)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == next(iter(claim))
    with target.http() as client:
        assert client.post("/admin/v1/keys", json={"name": "me", "role": "admin"}).status_code == 403


def test_9_nobody_gives_himself_a_lane_a_priority_or_a_share(target: Target) -> None:
    for claim in (
        {"lane": "continuous"},
        {"lanes": ["continuous"]},
        {"priority": 5},
        {"max_priority": 5},
        {"weight": 100},
        {"tokens_per_s": 1000},
        {"deadline_s": 1},
    ):
        response = target.ask(**claim)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == next(iter(claim))
    assert target.ask(service_tier="priority").status_code == 403
    with target.http() as client:
        for right in ({"lanes": ["continuous"]}, {"max_priority": 100}, {"weight": 1000}):
            assert client.post("/admin/v1/keys", json={"name": "me"} | right).status_code == 403


def test_9_headers_do_not_reach_beyond_the_keys_rights(target: Target) -> None:
    body = b'{"model": "fast", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}'
    for lines, status in (
        (["x-pileus-lane: continuous"], 403),
        (["X-PILEUS-LANE: continuous"], 403),
        (["x-pileus-lane: batch", "x-pileus-lane: continuous"], 400),
        (["x-pileus-lane: batch, continuous"], 400),
        (["x-pileus-lane: batch\tcontinuous"], 400),
        (["x-pileus-lane:\xa0continuous"], 400),
        (["x-pileus-priority: 1"], 403),
        (["x-pileus-priority: 0", "x-pileus-priority: 100"], 400),
        (["x-pileus-priority: 9223372036854775808"], 400),
        (["x-pileus-priority: \xb2"], 400),  # a superscript two, which some parsers take for a digit
        (["x-pileus-deadline-ms: 86400000"], 400),
        (["x-pileus-deadline-ms: NaN"], 400),
        (["x-pileus-weight: 1000", "x-pileus-tenant: other", "x_pileus_lane: continuous"], 200),  # read by nobody
        (["x-pileus-lane: batch", "x-pileus-priority: -100"], 200),
    ):
        head = target.head(*lines, f"content-length: {len(body)}", "connection: close")
        assert target.raw(head, body).status == status, lines
    with target.http(target.server.admin_key) as admin:
        [honest] = [key for key in admin.get("/admin/v1/keys").json()["data"] if key["id"] == target.user_id]
    assert (honest["lanes"], honest["max_priority"], honest["weight"]) == (["on_demand", "batch"], 0, 1.0)


def test_12_a_revoked_key_loses_its_stream_within_a_second(target: Target) -> None:
    with target.http(target.server.admin_key) as admin:
        made = admin.post("/admin/v1/keys", json={"name": "short"}).json()
        body = {"model": "slow", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 1000}
        with target.http(made["secret"]) as client, client.stream("POST", CHAT, json=body) as response:
            lines = response.iter_lines()
            next(lines)
            admin.delete(f"/admin/v1/keys/{made['id']}").raise_for_status()
            revoked_at = time.monotonic()
            rest = "".join(lines)
        assert time.monotonic() - revoked_at < 1.0
        assert "This API key was revoked." in rest
        assert "[DONE]" not in rest
    with target.http(made["secret"]) as client:
        assert client.post(CHAT, json=body).status_code == 401
