"""Attacks 17 and 19: what a connection may not do."""

import socket
import time
from collections.abc import Iterator

import pytest

from attacks.target import MIB, Target
from pileus.api.body import BODY_DEADLINE_S
from pileus.api.connection import HEAD_DEADLINE_S


def test_17_a_hundred_mebibytes_of_header_are_refused_without_being_kept(target: Target) -> None:
    def header() -> Iterator[bytes]:
        yield b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: "
        for _ in range(100):
            yield b"a" * MIB

    before = target.rss_bytes()
    answer = target.raw(header())
    assert answer.status in (0, 431)  # 0: the answer was lost because we never stopped sending
    assert target.rss_bytes() - before < 10 * MIB


def test_17_a_header_of_a_mebibyte_is_told_to_be_too_large(target: Target) -> None:
    assert target.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * MIB).status == 431


def test_17_ten_thousand_headers_are_refused(target: Target) -> None:
    assert target.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x-many: 1\r\n" * 10_000 + b"\r\n").status == 431


def test_17_a_url_of_a_mebibyte_is_refused(target: Target) -> None:
    assert target.raw(b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nhost: x\r\n\r\n").status in (404, 414, 431)


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", [b"", b"GET /", b"GET /healthz HTTP/1.1\r\nx-slow: "], ids=["silence", "path", "header"]
)
def test_19_a_head_at_one_byte_a_second_is_closed_at_the_deadline(target: Target, start: bytes) -> None:
    began = time.monotonic()
    with target.connection(timeout_s=1.0) as sock:
        sock.sendall(start)
        assert dripped_until_an_end(sock, b"a" if start else b"") == b""
    assert time.monotonic() - began < HEAD_DEADLINE_S + 5


@pytest.mark.slow
def test_19_a_body_at_one_byte_a_second_holds_no_slot_and_is_told_that_it_is_late(target: Target) -> None:
    began = time.monotonic()
    with target.connection(timeout_s=1.0) as sock:
        sock.sendall(target.head("content-length: 1000") + b"{")
        assert not any(replica["running"] or replica["queue"] for replica in target.status())
        assert dripped_until_an_end(sock, b" ").startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < BODY_DEADLINE_S + 5


def dripped_until_an_end(sock: socket.socket, byte: bytes) -> bytes:
    """Send a byte for each second without an answer; what came in the end, empty where the server just closed."""
    while True:
        try:
            return sock.recv(65536)
        except TimeoutError:
            sock.sendall(byte)
        except ConnectionResetError:
            return b""
