"""Which addresses a webhook may have: none that only this machine or its network reaches.

Whoever can name a URL could otherwise have this server send requests where only it can. So a name is resolved, each
address that it has is checked, and the connection goes to a checked address (`delivery`): a name that means something
else a moment later changes nothing.
"""

import re
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import SOCK_STREAM, gaierror
from typing import Final

import httpx

from pileus.core.errors import CallerError

URL_LIMIT: Final = 2048  # characters
# RFC 9110 has more, but one reader must not see a host where another sees a path.
_PLAIN: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_NAT64: Final = IPv6Network("64:ff9b::/96")  # the last four bytes are an IPv4 address
# Of IANA's registries of special addresses, what `ipaddress` takes for public in one version of Python or another.
_SPECIAL: Final = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2001::/23"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
    IPv6Network("fec0::/10"),
)
# Reached by virtual machines of a cloud only, at an address that looks like any other: Azure's.
_METADATA: Final = frozenset({IPv4Address("168.63.129.16")})

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(CallerError):
    """A webhook may not have this address."""

    code = "address_refused"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, param="url")


class Unresolved(CallerError):
    """This host's name has no address."""

    code = "host_not_found"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, param="url")


def read_url(text: str) -> httpx.URL:
    """A webhook's URL, as the very client reads it that will send there. Raises `AddressRefused`."""
    if not 0 < len(text) <= URL_LIMIT or _PLAIN.fullmatch(text) is None:
        raise AddressRefused(f"`url` should have 1 to {URL_LIMIT} characters, of those that a URL may have")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise AddressRefused("`url` is not a URL") from None
    if url.scheme not in ("http", "https"):
        raise AddressRefused("`url` should begin with http:// or https://")
    if url.userinfo or url.fragment:
        raise AddressRefused("`url` should have neither a user's name nor a fragment")
    if not 0 < port_of(url) < 65536 or not _is_host(url.host):
        raise AddressRefused("the host of `url` should be a name, or an address in its usual form")
    return url


def port_of(url: httpx.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port


def resolver(*, allow_private: bool) -> Resolve:
    """What gives the addresses of a host that a webhook may have."""
    return resolve if allow_private else resolve_public


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises `Unresolved`."""
    try:
        found = await get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    except (gaierror, UnicodeError):
        raise Unresolved(f"the host {host} has no address, as far as this server can tell") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def resolve_public(host: str, port: int) -> list[str]:
    """As `resolve`. Raises `AddressRefused` where one of the addresses is not public."""
    found = await resolve(host, port)
    if not all(is_public(ip_address(each)) for each in found):
        raise AddressRefused(
            f"the host {host} has an address that is not public; `webhooks.allow_private` would allow it"
        )
    return found


def is_public(address: Address) -> bool:
    """Whether it is one for all the internet, and no other way of writing one that is not."""
    if isinstance(address, IPv6Address) and (inner := _inside(address)) is not None:
        return is_public(inner)
    if address in _METADATA or any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address in _NAT64 or int(address) >> 32 == 0:  # the latter: IPv4-compatible, long out of use
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_host(host: str) -> bool:
    """No name that ends in a number: some readers take `2130706433`, `0177.1` and `0x7f.1` for addresses."""
    try:
        return "%" not in str(ip_address(host))
    except ValueError:
        return _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(host.rpartition(".")[2]) is None
