"""Takes one event to one receiver: once for each lease of its job, and again after a while until it is there."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import httpx
from msgspec import Struct
from msgspec.json import decode, encode

from pileus import __version__
from pileus.core.clock import Clock
from pileus.core.errors import ServiceError
from pileus.jobs.handler import Context, JobFailed
from pileus.store.job_table import Wish
from pileus.webhooks.addresses import AddressRefused, Resolve, Unresolved, port_of, read_url
from pileus.webhooks.events import TEST, Event
from pileus.webhooks.signing import signed_headers

KIND: Final = "webhook"
LIMIT_S: Final = 10.0  # for a try, from the look-up of the name to the status
CONNECT_S: Final = 3.0  # for each of a name's addresses
_GONE: Final = 410


class DeliverySpec(Struct, frozen=True):
    """What is to be told, and where."""

    webhook: str
    url: str
    event: Event


class Delivered(Struct, frozen=True):
    """The receiver has it."""

    status: int


class Undelivered(ServiceError):
    """The receiver does not have it."""

    code = "undelivered"


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to addresses that `resolve` gave, and never looks a name up again. The certificate must be the name's.
    No connection serves twice: it could be taken for another name at the same address."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._inner = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        request.extensions["sni_hostname"] = url.host
        failure: httpx.ConnectError | httpx.ConnectTimeout | None = None
        for address in await self._resolve(url.host, port_of(url)):
            request.url = url.copy_with(host=address)
            try:
                return await self._inner.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or httpx.ConnectError("it has no address")

    async def aclose(self) -> None:
        await self._inner.aclose()


class Courier:
    """Meets `jobs.handler.Handler`, for jobs whose spec is a `DeliverySpec`. Close it at the end."""

    def __init__(
        self,
        secret_of: Callable[[str], bytes],
        resolve: Resolve,
        clock: Clock,
        *,
        limit_s: float = LIMIT_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        self._secret_of = secret_of  # of a webhook's id
        self._clock = clock
        self._limit_s = limit_s
        self._client = httpx.AsyncClient(
            transport=PinnedTransport(resolve),
            timeout=httpx.Timeout(limit_s, connect=connect_s),
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": f"pileus/{__version__}", "content-type": "application/json"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, context: Context) -> bytes:
        spec = decode(context.job.spec, type=DeliverySpec)
        if context.wish in (Wish.CANCEL, Wish.EXPIRE):  # nobody is to be told any more
            return b""
        try:
            return encode(Delivered(await self._deliver(spec, context)))
        except Undelivered as error:
            if spec.event.type == TEST:  # somebody looks on
                raise JobFailed(error.message, code=error.code) from None
            raise

    async def _deliver(self, spec: DeliverySpec, context: Context) -> int:
        """The status of a receiver that has it."""
        url, began = read_url(spec.url), self._clock.monotonic()
        try:
            async with asyncio.timeout(self._limit_s):
                status = await self._post(spec)
        except AddressRefused as error:
            raise JobFailed(error.message, code=error.code) from None
        except Unresolved as error:
            raise Undelivered(error.message) from None
        except (TimeoutError, httpx.TimeoutException):
            raise Undelivered(f"{url.host} did not answer within {self._limit_s:g} s") from None
        except httpx.HTTPError as error:
            raise Undelivered(f"{url.host} cannot be reached: {error or type(error).__name__}") from None
        took_s = self._clock.monotonic() - began
        told = f"{url.host} answered {status} after {took_s:.2f} s"
        if status == _GONE:
            raise JobFailed(f"{told}: it wants no more", code="gone")
        if not 200 <= status < 300:
            raise Undelivered(told)
        context.log(told)
        return status

    async def _post(self, spec: DeliverySpec) -> int:
        body = encode(spec.event)
        headers = signed_headers(self._secret_of(spec.webhook), spec.event.id, int(self._clock.wall()), body)
        async with self._client.stream("POST", spec.url, content=body, headers=headers) as response:
            return response.status_code  # what else it says is nobody's to read
