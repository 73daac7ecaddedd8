"""Hands requests on to the process that owns the data folder: all but those that make models speak."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from pileus.api.edge import ADDRESS_HEADER, Head
from pileus.api.patience import Patience
from pileus.api.presence import ClientLeft, Presence
from pileus.core.errors import InvalidRequest, Unavailable

# Of one connection only (RFC 9110, 7.6.1), or made anew.
_NOT_HANDED_ON: Final = frozenset(
    {
        b"connection",
        b"date",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
        ADDRESS_HEADER,
    }
)
_OWNER: Final = "http://owner"  # a name for the URL; the socket decides
_RETRY_S: Final = 1.0


class Forward:
    """An ASGI application: paths in `own_paths` go to `own`, all others to the owner's socket."""

    def __init__(self, own: ASGIApp, own_paths: frozenset[str], owner: Path) -> None:
        self._own = own
        self._own_paths = own_paths
        transport = httpx.AsyncHTTPTransport(uds=str(owner), limits=httpx.Limits(max_connections=None))
        self._client = httpx.AsyncClient(transport=transport, timeout=None)  # noqa: S113  # streams have no end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._own_paths:
            await self._own(scope, receive, send)
        else:
            await self._hand_on(scope, receive, send, _body(receive) if _has_body(scope) else None)

    def with_body(self, body: bytes) -> ASGIApp:
        """What hands on a request at an own path whose body was read, and that the owner must answer all the same."""

        async def hand_on(scope: Scope, receive: Receive, send: Send) -> None:
            await self._hand_on(scope, receive, send, body)

        return hand_on

    async def close(self) -> None:
        await self._client.aclose()

    async def _hand_on(
        self, scope: Scope, receive: Receive, send: Send, content: AsyncIterator[bytes] | bytes | None
    ) -> None:
        request = self._client.build_request(
            scope["method"], _target(scope), headers=_handed_on(scope), content=content
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise Unavailable("This cannot be answered at present.", retry_after_s=_RETRY_S) from error
        try:
            async with Presence(receive, set()):
                headers = [(name.lower(), value) for name, value in response.headers.raw]
                kept = [(name, value) for name, value in headers if name == b"x-request-id" or _goes_on(name)]
                await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
                async for part in response.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """As it comes."""
    patience, more = Patience(receive), True
    while more:
        message = await patience.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _target(scope: Scope) -> httpx.URL:
    """As it was sent."""
    query = scope["query_string"]
    try:
        return httpx.URL(_OWNER).copy_with(raw_path=scope["raw_path"] + (b"?" + query if query else b""))
    except (httpx.InvalidURL, UnicodeDecodeError):
        raise InvalidRequest("The URL has characters that a URL cannot have.") from None


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _handed_on(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The caller's headers, with the request's name and the caller's address as they are known here."""
    head: Head = scope["pileus.head"]
    client: tuple[str, int] | None = scope.get("client")
    kept = [(name, value) for name, value in scope["headers"] if _goes_on(name)]
    address = client[0].encode() if client else b""
    return [*kept, (b"x-request-id", head.request_id.encode()), (ADDRESS_HEADER, address)]


def _goes_on(name: bytes) -> bool:
    return name not in _NOT_HANDED_ON
