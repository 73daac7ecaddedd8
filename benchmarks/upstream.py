"""An instant upstream: answers at once with words made beforehand. What a gateway in front of it takes is the gateway's
own; and it shows how fast the load generator itself can go.

Run as a process: `python -m benchmarks.upstream PORT`. It streams `max_tokens` events, one chunk each, in one write.
"""

import asyncio
import json
import re
import sys
from functools import cache
from typing import cast

_CONTENT_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_MAX_TOKENS = re.compile(rb'"max_tokens":\s*(\d+)')
_STREAMED = re.compile(rb'"stream":\s*true')
_NAMES = {"id": "chatcmpl-0", "created": 0, "model": "fake"}


class Upstream(asyncio.Protocol):
    """One keep-alive connection; requests may come in pieces."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._rest += data
        while True:
            head, separator, body = self._rest.partition(b"\r\n\r\n")
            length = _CONTENT_LENGTH.search(head)
            missing = int(length[1]) if length else 0
            if not separator or len(body) < missing:
                return
            self._rest = body[missing:]
            tokens = _MAX_TOKENS.search(body[:missing])
            self._transport.write(_answer(int(tokens[1]) if tokens else 1, bool(_STREAMED.search(body[:missing]))))


@cache
def _answer(tokens: int, streamed: bool) -> bytes:
    usage = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": tokens + 8}
    if not streamed:
        message = {"role": "assistant", "content": " word" * tokens}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        body = json.dumps({**_NAMES, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        return head + body
    events = [_event([{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]) for _ in range(tokens)]
    events.append(_event([{"index": 0, "delta": {}, "finish_reason": "length"}]))
    events.append(_event([], usage=usage))
    events.append(b"data: [DONE]\n\n")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    event = {**_NAMES, "object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
