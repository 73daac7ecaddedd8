"""Forms as they come: whole, in pieces, late, too large, and wrong in every way."""

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any

import pytest

from pileus.api import patience
from pileus.api.edge import Head
from pileus.api.errors import BodyTooSlow, UnsupportedMediaType
from pileus.api.multipart import Filled, FormField, MultipartForm, read_form
from pileus.api.presence import ClientLeft
from pileus.core.errors import InvalidRequest, TooLarge

MIB = 1024 * 1024
FORM = MultipartForm(file="file", fields=(FormField("purpose", str, {}, is_required=True), FormField("note", str, {})))


def part(name: str, value: bytes, *, filename: str | None = None, headers: str = "") -> bytes:
    label = f'; filename="{filename}"' if filename is not None else ""
    head = f'Content-Disposition: form-data; name="{name}"{label}\r\n{headers}\r\n'
    return b"--b\r\n" + head.encode() + value + b"\r\n"


def form_of(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


PURPOSE = part("purpose", b"batch")
FILE = part("file", b"content", filename="a.txt")


class Sent:
    """A body in pieces, and what was written of its file."""

    def __init__(self, *pieces: bytes, left: bool = False, silent: bool = False) -> None:
        self.pieces = list(pieces)
        self.left = left
        self.silent = silent
        self.written = b""
        self.most_ahead = 0
        self._taken = 0

    async def receive(self) -> Any:
        if self.pieces:
            body = self.pieces.pop(0)
            self._taken += len(body)
            return {"type": "http.request", "body": body, "more_body": bool(self.pieces) or self.left or self.silent}
        if self.silent:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.written += data
        self.most_ahead = max(self.most_ahead, self._taken - len(self.written))

    async def read(self, form: MultipartForm = FORM, most: int = MIB, **headers: bytes) -> Filled:
        values = {b"content-type": b"multipart/form-data; boundary=b"}
        values |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
        return await read_form(form, Head("req_1", values, None), self.receive, most, self.write)


@pytest.mark.parametrize("parts", [(PURPOSE, FILE), (FILE, PURPOSE)], ids=["fields first", "file first"])
@pytest.mark.parametrize("size", [1, 2, 7, 10**6])
async def test_a_form_is_read_however_it_is_cut(parts: Sequence[bytes], size: int) -> None:
    body = form_of(*parts)
    sent = Sent(*(body[start : start + size] for start in range(0, len(body), size)))
    filled = await sent.read()
    assert (filled.filename, filled.values, sent.written) == ("a.txt", {"purpose": "batch"}, b"content")


async def test_a_files_bytes_come_through_whatever_they_are() -> None:
    rng = random.Random(7)
    for content in (
        b"",
        b"\r\n",
        b"\r\n--",
        b"\r\n--a",
        b"--b",
        b"\r\n--\r\n--\r\n-",
        os.urandom(70_000),
        b"\r\n--" * 9999,
    ):
        body = form_of(PURPOSE, part("file", content, filename="räume.txt"))
        cuts = sorted(rng.sample(range(len(body)), 20))
        sent = Sent(*(body[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)))
        assert (await sent.read()).filename == "räume.txt"
        assert sent.written == content


async def test_no_more_than_one_piece_is_in_memory() -> None:
    body = form_of(PURPOSE, part("file", os.urandom(MIB), filename="a"))
    sent = Sent(*(body[start : start + 10_000] for start in range(0, len(body), 10_000)))
    await sent.read(most=2 * MIB)
    assert sent.most_ahead < 11_000


@pytest.mark.parametrize(
    ("body", "param", "reason"),
    [
        (form_of(FILE), "purpose", "required"),
        (form_of(PURPOSE), "file", "required"),
        (form_of(PURPOSE, PURPOSE, FILE), "purpose", "twice"),
        (form_of(PURPOSE, FILE, FILE), "file", "twice"),
        (form_of(PURPOSE, part("colour", b"blue"), FILE), "colour", "not a field"),
        (form_of(PURPOSE, part("colour", b"blue", filename="x"), FILE), "colour", "not a field"),
        (form_of(PURPOSE, part("file", b"no file")), "file", "filename"),
        (form_of(part("purpose", b"x" * 1025), FILE), "purpose", "too long"),
        (form_of(part("purpose", b"\xff"), FILE), None, "UTF-8"),
        (
            form_of(PURPOSE, b'--b\r\nContent-Disposition: form-data; name="file"; filename="\xff"\r\n\r\nx\r\n'),
            None,
            "UTF-8",
        ),
        (form_of(PURPOSE, b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n"), None, "no name"),
        (form_of(PURPOSE, b'--b\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n'), None, "no name"),
        (
            form_of(PURPOSE, part("file", b"eA==", filename="x", headers="Content-Transfer-Encoding: base64\r\n")),
            None,
            "encoded",
        ),
        (
            form_of(
                PURPOSE, part("file", b"x", filename="x", headers='Content-Disposition: form-data; name="note"\r\n')
            ),
            None,
            "header twice",
        ),
        (form_of(PURPOSE, part("file", b"x", filename="x", headers="X-A: b\r\n" * 20)), None, "header"),
        (form_of(PURPOSE, part("file", b"x", filename="x", headers=f"X-A: {'b' * 5000}\r\n")), None, "cannot be read"),
        (form_of(PURPOSE, FILE)[:-6], None, "ended early"),
        (PURPOSE + FILE[:-9], None, "ended early"),
        (b"", None, "ended early"),
        (b"not a form", None, "cannot be read"),
        (b"--c\r\n" + form_of(PURPOSE, FILE), None, "cannot be read"),
    ],
)
async def test_a_form_that_is_wrong_is_refused_with_its_reason(body: bytes, param: str | None, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refused:
        await Sent(body).read()
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b"application/json", UnsupportedMediaType),
        (b"", UnsupportedMediaType),
        (b"multipart/mixed; boundary=b", UnsupportedMediaType),
        (b"multipart/form-data", InvalidRequest),
        (b"multipart/form-data; boundary=", InvalidRequest),
        (b"multipart/form-data; boundary=" + b"b" * 300, InvalidRequest),
    ],
)
async def test_a_body_that_is_no_form_is_refused(header: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Sent(form_of(PURPOSE, FILE)).read(content_type=header)


async def test_a_compressed_form_is_not_unpacked() -> None:
    with pytest.raises(UnsupportedMediaType):
        await Sent(form_of(PURPOSE, FILE)).read(content_encoding=b"gzip")


async def test_a_form_over_its_bound_is_refused_at_its_announcement_or_at_the_bound() -> None:
    sent = Sent()
    with pytest.raises(TooLarge):
        await sent.read(content_length=b"%d" % (2 * MIB))
    with pytest.raises(InvalidRequest):
        await sent.read(content_length=b"many")
    sent = Sent(*[form_of(PURPOSE, part("file", b"", filename="a"))[:-9], *[bytes(100_000)] * 1000])
    with pytest.raises(TooLarge):
        await sent.read()
    assert len(sent.written) < 1.2 * MIB


async def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(ClientLeft):
        await Sent(PURPOSE, left=True).read()


async def test_silence_has_a_bound_and_length_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SILENCE_S", 0.05)
    sent = Sent(PURPOSE, silent=True)
    with pytest.raises(BodyTooSlow):
        await sent.read()


async def test_dribbling_is_no_way_around_the_bound_on_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte at a time, each well within the silence that is borne."""
    monkeypatch.setattr(patience, "SILENCE_S", 0.2)
    body = form_of(PURPOSE, part("file", bytes(2000), filename="a"))
    sent = Sent(*(body[n : n + 1] for n in range(len(body))))
    received, real = 0, sent.receive

    async def receive() -> Any:
        nonlocal received
        received += 1
        await asyncio.sleep(0.02)
        return await real()

    sent.receive = receive  # type: ignore[method-assign]
    with pytest.raises(BodyTooSlow):
        await sent.read()
    assert received < 20
