"""A route that cannot exist without saying who may use it.

`GuardedRoute` is FastAPI's route, so that the OpenAPI document and `/docs` know it, with the way to the handler cut
short: authenticate, check the permission that was declared for this route, call the handler. A decision never looks at
a URL that was put together from headers.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from msgspec import Struct
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pileus.api.body import Form, parse, read_body
from pileus.api.edge import ADDRESS_HEADER, Head
from pileus.api.multipart import Filled, MultipartForm, Write, read_form
from pileus.api.presence import Presence, Present
from pileus.api.services import EdgeServices, Services
from pileus.core.errors import InvalidRequest, Unauthenticated
from pileus.core.records import Principal
from pileus.security.permission import Permission, require


class Public:
    """Declares that a route needs no key."""


PUBLIC: Final = Public()
_KEY_NAMES = frozenset({"key", "api_key", "api-key", "apikey", "x-api-key", "token", "access_token", "authorization"})


class Call(Request):
    """One request at its route."""

    content: bytes = b""  # its body, once it was read

    @property
    def services(self) -> EdgeServices:
        services: EdgeServices = self.scope["app"].state.services
        return services

    @property
    def owned(self) -> Services:
        """Only for routes of the process that owns the data folder."""
        services = self.services
        assert isinstance(services, Services)
        return services

    @property
    def head(self) -> Head:
        head: Head = self.scope["pileus.head"]
        return head

    @property
    def principal(self) -> Principal:
        """Who calls; only for routes that are not public."""
        principal = self.head.principal
        assert principal is not None
        return principal

    async def read(self, kind: type[Form]) -> Form:
        """The request's body as this form."""
        self.content = await read_body(self.head, self.receive, self.services.settings.server.max_body_bytes)
        return parse(kind, self.content)

    async def read_form(self, form: MultipartForm, most_bytes: int, write: Write) -> Filled:
        """The request's body as this form, with its file written. Raises `KeyRefused` for a key that was closed while
        the body came in."""
        filled = await read_form(form, self.head, self.receive, most_bytes, write)
        self.services.ring.check(self.principal.key_id)
        return filled

    def whole_number(self, name: str, default: int, least: int, most: int) -> int:
        """A query parameter. Raises `InvalidRequest` for what is no whole number in these bounds."""
        text = self.query_params.get(name, str(default))
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else -1
        if not least <= number <= most:
            raise InvalidRequest(f"`{name}` should be a whole number from {least} to {most}", param=name)
        return number

    def presence(self) -> Presence:
        """To be entered while an answer is made that takes long. Raises `KeyRefused` for a key that was closed while
        the body came in."""
        self.services.ring.check(self.principal.key_id)
        present: Present = self.scope["app"].state.present
        return present.of(self.principal.key_id, self.receive)


class Header(Struct, frozen=True):
    """A request header that a route reads, for the document. `schema` is its JSON Schema."""

    name: str
    schema: dict[str, Any]
    description: str


Handler = Callable[[Call], Awaitable[ASGIApp]]


class GuardedRoute(APIRoute):
    """`permission` has no default: a route that forgot it does not start."""

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        permission: Permission | Public,
        takes: type[BaseModel] | None = None,
        form: MultipartForm | None = None,
        gives: type[Any] | None = None,
        promises: type[Any] | None = None,
        streams: type[Any] | None = None,
        query: Sequence[str] = (),
        headers: Sequence[Header] = (),
        tag: str = "",
        **documentation: Any,
    ) -> None:
        super().__init__(path, handler, methods=[method], response_model=None, tags=[tag], **documentation)
        self.permission = permission
        self.takes = takes
        self.form = form
        self.gives = gives
        self.promises = promises  # with 202
        self.streams = streams
        self._handler = handler
        self.query = frozenset(query)
        self.headers = tuple(headers)
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send)
        if scope["query_string"]:
            self._check_query(scope["query_string"])
        if not isinstance(self.permission, Public):
            head = call.head
            head.principal = call.services.ring.authenticate(secret_of(head.values), _address(scope))
            require(head.principal, self.permission)
        response = await self._handler(call)
        await response(scope, receive, send)

    def _check_query(self, query_string: bytes) -> None:
        """A key in a URL ends up in logs and histories, so it is refused; so is what the route does not read."""
        for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
            if name.lower() in _KEY_NAMES or value.startswith("sk-pileus-"):
                raise InvalidRequest("an API key does not belong into a URL: send it as `Authorization: Bearer ...`")
            if name not in self.query:
                raise InvalidRequest(f"`{name}` is not a query parameter of this endpoint", param=name)


def _address(scope: Scope) -> str:
    """Who is at the other end of the connection. Headers that claim another are nobody's word, but where the other end
    is a gateway process of this server, which is connected by a socket that only this user reaches."""
    client: tuple[str, int] | None = scope.get("client")
    if client is not None:
        return client[0]
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == ADDRESS_HEADER), "")


def secret_of(head: dict[bytes, bytes]) -> str:
    """The API key, from either of the two headers that may carry it."""
    bearer, plain = head.get(b"authorization"), head.get(b"x-api-key")
    if bearer is None:
        if plain is None:
            raise Unauthenticated
        return plain.decode("latin-1")
    scheme, _, secret = bearer.partition(b" ")
    secret = secret.strip()
    if scheme.lower() != b"bearer" or not secret:
        raise Unauthenticated
    if plain is not None and plain != secret:
        raise InvalidRequest("Authorization and x-api-key name different keys")
    return secret.decode("latin-1")
